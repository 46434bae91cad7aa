"""Names: the hero's, the friend's and the town's, which together spell the story's number.

The three lists share no word with each other or with the rest of the lexicon (a test holds them to it), so the three
names can be read back from the text of a story. Towns are put together from syllables, for want of thousands of real
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
Bel Bram Brin Cal Cor Dal Del Dov Ed Elv Em Fab Far Fen Gal Gar Gil Hal Hel Hol Il Ir Jan Jor Kal Kel Kin Lan Lev Lin
Lor Mal Mar Mel Mor Nad Nel Nor Ol Or Osk Pel Per Pim Quil Ram Ros Sab Sel Sil Sor Tab Tal Tam Tor Ul Val Ver Vin Wil
Wren Yan Yor Zad Zel Zim Dun Bar
Bib Bod Bun Cob Crump Dab Dim Fid Fip Gub Hob Hub Jel Kip Lum Mop Muf Nib Nod Pab Pod Pum Rib Rol Sim Tib Tid Tod
Tup Wib Wob Zib
""")
_SURNAME_ENDS = _split("bins dle kin by bury son sworth ley wick ner man more")


_TOWN_SIDES = _split("Old New Upper Lower North South East West Great Far Near High Nether Royal Long Fair")

HEROES = (*GIRLS[:64], *BOYS[:64])
"""128 names, the girls' half first. So few that a small model learns to keep to them throughout a story."""

FRIENDS = (*GIRLS[64:128], *BOYS[64:128])
"""128 other names, the girls' half first."""

_towns = tuple(islice(dict.fromkeys(start + end for start in _TOWN_STARTS for end in _TOWN_ENDS), 4097))
TOWNS = tuple(f"{side} {town}" for side in _TOWN_SIDES for town in _towns if town != "Windmill")
"""65,536 names. A story says its town's once, so there may be many."""

SURNAMES = tuple(dict.fromkeys(start + end for start in _SURNAME_STARTS for end in _SURNAME_ENDS))
"""Names of grown-up neighbours, behind Mr. or Mrs."""
