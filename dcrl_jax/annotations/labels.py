"""The labels of people and of ignore regions, by benchmark."""

PERSON = "person"
# A region that need not be found.
IGNORE = "ignore"
# Marks the row of an object that only the other modality shows (paired annotations of KAIST).
UNPAIRED = "unpaired"

# Objects that need not be found; a detection on one is no false positive. "people" is a group, "person?" is doubtful,
# and some annotation sets mark such regions as "ignore".
KAIST_IGNORE = ("people", "person?", "cyclist", IGNORE, UNPAIRED)
CALTECH_IGNORE = ("people", "person?", IGNORE)
