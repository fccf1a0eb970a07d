"""The twelve leads and the Challenge's five sets of them."""

# Lead sets of the Challenge, each in the standard order.
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LEAD_SETS = {
    12: LEADS,
    6: LEADS[:6],
    4: ("I", "II", "III", "V2"),
    3: ("I", "II", "V2"),
    2: ("I", "II"),
}
STANDARD_NAME = {lead.casefold(): lead for lead in LEADS}


def standard_name(name):
    """Return a lead's name in its standard spelling where it is one of the twelve in any case, else as it is."""
    return STANDARD_NAME.get(name.casefold(), name)
