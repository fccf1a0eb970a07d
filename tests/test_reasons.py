from ecg.reasons import grouped


def test_reasons_are_grouped_by_their_kind_the_most_frequent_first():
    dropped = [
        ("S0001", "source PTB is not trained on"),
        ("A1", "A1.hea line 3: gain 'x' is not NUMBER[(BASELINE)][/UNITS]"),
        ("A2", "A2.hea line 7: gain '1000(/mV' is not NUMBER[(BASELINE)][/UNITS]"),
        ("A3", "0.52 s is shorter than 1 s"),
        ("A4", "0.5 s is shorter than 1 s"),
        ("A5", "A5: no lead V1 among I, II"),
        ("A6", "A6: no lead V1 among I, II"),
        ("A7", "A7: no lead V1 among I, II"),
        ("A8", "A8.mat: no such file beside A8.hea, which names it"),
        ("A9", "A9.mat: int16 (2, 20), expected (12, 20) numbers by A9.hea"),
        ("B1", "B1.mat: int16 (3, 20), expected (12, 20) numbers by B1.hea"),
    ]
    assert grouped(dropped) == [
        ("no lead V1 among I, II", ["A5", "A6", "A7"]),
        ("gain ... is not NUMBER[(BASELINE)][/UNITS]", ["A1", "A2"]),
        ("... s is shorter than ... s", ["A3", "A4"]),
        ("int16 (..., ...), expected (..., ...) numbers by NAME.hea", ["A9", "B1"]),
        ("source PTB is not trained on", ["S0001"]),
        ("no such file beside NAME.hea, which names it", ["A8"]),
    ]
    assert grouped([]) == []
