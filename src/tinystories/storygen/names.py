"""Names: the hero's, the friend's and the town's, which together spell the story's number.

The three lists share no word with each other or with the rest of the lexicon (a test holds them to it), so the three
names can be read back from the text of a story. Most are put together from syllables, for want of thousands of real
ones.
"""

from __future__ import annotations

from itertools import islice


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIRLS = _split("""
Lily Mia Anna Emma Sara Sue Lucy Molly Ella Zoe Nora Ava Chloe Amy Kate Jane Mary Ellie Sophie Hannah Julia Maria
Alice Clara Eva Leah Maya Nina Tara Rosa Elsa Ida Olga Lena Lola Lulu Mimi Gigi Kiki Tilly Milly Polly Dolly Sally
Betsy Betty Wendy Mandy Cindy Peggy Jenny Annie Bonnie Connie Katie Josie Rosie Susie Maggie Gracie Nellie Ruth Esther
Naomi Abby Beth Carla Diana Edith Fiona Greta Helen Irene Judy Kara Linda Megan Nancy Olivia Paula Rachel Sonia Tina
Una Vera Wilma Yara Zara Amelia Beatrix Celia Dora Eliza Flora Gloria Heidi Isla Jessie Kim Laura Mabel Nadia Opal
Phoebe Rita Stella Thea Ursula Violet Winnie Yvonne Zelda Agnes Becky Carmen Delia Elena Freya Gemma Harriet Ingrid
Joan Kylie Lottie Matilda Priya Annika Leonie
""")
BOYS = _split("""
Tom Tim Ben Max Sam Jack Leo Joe Dan Bob Billy Tommy Timmy Jimmy Johnny Charlie Oliver Henry Noah Luke Adam Alex Andy
Anton Arthur Barney Bruno Caleb Carl Chris Daniel David Dennis Eddie Eli Elmer Eric Ethan Felix Finn Freddy Gabe
George Gus Hugo Ian Isaac Ivan Jacob Jake James Jason Jay Jeff Jerry Joel Jonas Josh Juan Kai Karl Ken Kevin Kyle
Lars Liam Louis Lucas Marco Mario Martin Matt Micah Mike Milo Nate Ned Nick Nico Nolan Omar Oscar Otto Owen Pablo
Paul Pedro Pete Peter Philip Quinn Ralph Raj Ray Rex Ricky Robbie Rupert Roger Ronny Rory Ryan Scott Sean Simon Stan
Steve Ted Thomas Theo Toby Todd Tony Troy Umar Victor Vince Walter Wes Wesley Willy Xavier Zack Zane Zeke Ollie Alfie
Archie Benji
""")

_STARTS = _split("""
Bel Bram Brin Cal Cor Dal Del Dov Ed Elv Em Fab Far Fen Gal Gar Gil Hal Hel Hol Il Ir Jan Jor Kal Kel Kin Lan Lev Lin
Lor Mal Mar Mel Mor Nad Nel Nor Ol Or Osk Pel Per Pim Quil Ram Ros Sab Sel Sil Sor Tab Tal Tam Tor Ul Val Ver Vin Wil
Wren Yan Yor Zad Zel Zim Dun Bar
""")
_GIRL_ENDS = _split("""
a ia ina ella etta issa ora elle ika anna illa ise ette una enka alie isha ette ola elia ita ine ara esta imi
onda ury emma iva adora anne eena olin ushka
""")
_BOY_ENDS = _split("""
o in an ic us ert ek old ard en os iam ick ulf obert ley ander ton is eo by rick mund wyn ano iko emil ock abel ison
aso un ey ix
""")

_TOWN_STARTS = _split("""
Ash Bramble Willow Maple Clover Fern Thistle Hazel Birch Cedar Elder Heather Moss Nettle Oak Pine Reed Rush Sorrel
Thorn Amber Copper Silver Golden Stone Sand Pebble Flint Marble Honey Butter Apple Cherry Plum Berry Barley Oat Wheat
Rose Goose Swan Robin Lark Otter Badger Fox Hare Lamb Star Sun Moon Cloud Rain Snow Frost Wind Misty Merry Little
Bright Quiet Green Blue Sunny
""")
_TOWN_ENDS = _split("""
brook field ton wick dale ford ham bury mere wood side bridge hill well stead worth gate haven port cliff bank shore
marsh ridge vale grove hollow cross stow combe leigh den mouth pool springs holt croft thorpe by fell garth hurst
kirk lea minster mill moor nook over pond rigg stoke throp tree view ville water way yard end low beck burn dell glen
""")

_SURNAME_STARTS = _split("""
Bib Bod Bun Cob Crump Dab Dim Fid Fip Gub Hob Hub Jel Kip Lum Mop Muf Nib Nod Pab Pod Pum Rib Rol Sim Tib Tid Tod
Tup Wib Wob Zib
""")
_SURNAME_ENDS = _split("bins dle kin by bury son sworth ley wick ner man more")


def _take(count: int, *made: str, but_not: set[str]) -> tuple[str, ...]:
    """The first ``count`` different names of ``made`` that are not taken yet."""
    names = tuple(islice((name for name in dict.fromkeys(made) if name not in but_not), count))
    if len(names) < count:
        raise ValueError(f"only {len(names)} names of {count}")
    return names


HEROES = (*GIRLS, *BOYS[:128])
"""256 names, the 128 of girls first."""

_girl_friends = _take(
    2048, *(start + end for start in _STARTS for end in _GIRL_ENDS), but_not={*HEROES, "Bella", "Vina", "Ora"}
)
FRIENDS = (
    *_girl_friends,
    *_take(
        2048, *(start + end for start in _STARTS for end in _BOY_ENDS),
        but_not={*HEROES, *_girl_friends, "Corn", "Elvis", "Corners", "Barley", "Marble", "Wilton", "Valley"},
    ),
)  # fmt: skip
"""4096 names, the girls' half first."""

TOWNS = _take(
    4096, *(start + end for start in _TOWN_STARTS for end in _TOWN_ENDS), but_not={*HEROES, *FRIENDS, "Windmill"}
)
"""4096 names."""

SURNAMES = tuple(dict.fromkeys(start + end for start in _SURNAME_STARTS for end in _SURNAME_ENDS))
"""Names of grown-up neighbours, behind Mr. or Mrs."""
