"""Data: from prepared records to batches."""
