"""Recognise female and male in headers in many languages."""

import re
import unicodedata

# Words for female and for male, by language. The letter M is male, as the Challenge has it, although it may also mean
# the Spanish mujer. V is missing: it is female in Dutch (vrouw) and male in Spanish (varón).
SEX_WORDS = {
    "English": ("female woman girl f w", "male man boy m"),
    "German": ("weiblich weibl frau mädchen w", "männlich männl mann junge m"),
    "French": ("féminin féminine femme fille fem f", "masculin homme garçon masc m h"),
    "Spanish": ("femenino femenina mujer niña hembra fem f", "masculino hombre varón niño macho masc m h"),
    "Italian": ("femminile femmina donna ragazza bambina f", "maschile maschio uomo ragazzo bambino m"),
    "Portuguese": ("feminino feminina mulher menina fêmea fem f", "masculino homem menino macho masc m h"),
    "Dutch": ("vrouw vrouwelijk meisje", "man mannelijk jongen m"),
    "Danish": ("kvinde kvindelig pige k", "mand mandlig dreng m"),
    "Norwegian": ("kvinne kvinnelig jente k", "mann mannlig gutt m"),
    "Swedish": ("kvinna kvinnlig flicka k", "man manlig pojke m"),
    "Polish": ("kobieta żeńska dziewczynka k", "mężczyzna męska chłopiec m"),
    "Russian": ("женский женщина жен ж", "мужской мужчина муж м"),
    "Turkish": ("kadın kadin kız kiz k", "erkek e"),
    "Chinese": ("女 女性 女士 女孩 女童", "男 男性 男士 男孩 男童"),
    "Japanese": ("女 女性 女子", "男 男性 男子"),
    "Korean": ("여 여성 여자", "남 남성 남자"),
}
TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def _spellings(word: str) -> set[str]:
    """Return a word in lower case, without accents, and with umlauts transcribed."""
    word = unicodedata.normalize("NFC", word.casefold())
    bare = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
    return {word, unicodedata.normalize("NFC", bare), word.translate(TRANSCRIBED)}


SEX = {
    spelling: sex
    for words in SEX_WORDS.values()
    for sex, text in zip(("Female", "Male"), words, strict=True)
    for word in text.split()
    for spelling in _spellings(word)
}


def parse_sex(text: str) -> str:
    """Return "Female", "Male" or "Unknown" by the first word (see SEX_WORDS)."""
    word = re.search(r"[^\W\d_]+", unicodedata.normalize("NFKC", text))
    return SEX.get(word[0].casefold(), "Unknown") if word else "Unknown"
