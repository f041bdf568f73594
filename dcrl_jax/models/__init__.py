"""The teacher, the student and their parts, from images to region outputs and detections."""
