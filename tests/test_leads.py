from ecg.leads import LEAD_SETS, LEADS, standard_name


def test_standard_leads_get_their_standard_names():
    for written, name in (("AVR", "aVR"), ("avl", "aVL"), ("ii", "II"), ("v6", "V6"), ("vx", "vx"), ("Resp", "Resp")):
        assert standard_name(written) == name
    assert {standard_name(change(lead)) for lead in LEADS for change in (str.upper, str.lower)} == set(LEADS)


def test_lead_sets_are_the_challenges():
    assert {count: len(leads) for count, leads in LEAD_SETS.items()} == {12: 12, 6: 6, 4: 4, 3: 3, 2: 2}
    for leads in LEAD_SETS.values():
        assert sorted(leads, key=LEADS.index) == list(leads)
