"""Which files a user names, and which of them are pairs."""
