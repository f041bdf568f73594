"""Names of annotated objects, by benchmark."""

PERSON = "person"
# The row of an object that only the other modality shows (paired annotations of KAIST).
UNPAIRED = "unpaired"

# Objects that are neither asked for nor held against a detection. "people" is a group, "person?" is doubtful, and
# "ignore" marks such a region in some annotation sets.
KAIST_IGNORE = ("people", "person?", "cyclist", "ignore", UNPAIRED)
CALTECH_IGNORE = ("people", "person?", "ignore")
