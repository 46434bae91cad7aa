"""People's traits and wishes, and animals. One row a word: see ``grammar.table``."""

from __future__ import annotations

from .grammar import table
from .names import SURNAMES

# Animals that are heroes and friends of heroes: they have paws and live in the wild.
ANIMALS = table(
    "_ | home | coat",
    """
    rabbit | burrow | long soft ears
    fox | den | a bushy red tail
    bear | cave | thick brown fur
    mouse | nest | a thin pink tail
    hedgehog | nest of leaves | lots of little prickles
    squirrel | hollow tree | a big fluffy tail
    badger | den | a black and white face
    mole | tunnel | a velvet coat
    otter | den by the river | sleek wet fur
    beaver | lodge | two big front teeth
    raccoon | hollow log | rings around {his} tail
    chipmunk | burrow | stripes down {his} back
    wolf cub | den | pointed gray ears
    koala | tree | a round black nose
    panda | bamboo hut | black rings around {his} eyes
    weasel | den | a long thin body
    lion cub | cave | a small tuft on {his} tail
    hamster | nest | fat round cheeks
    dormouse | nest | huge dark eyes
    monkey | tree house | a curly tail
    tiger cub | cave | bold black stripes
    skunk | burrow | a white stripe
    """,
)

# Small creatures without a name, called "it", which get into trouble.
BEASTS = table(
    "_ | sound | went | part | food | home",
    """
    kitten | mewed | ran | paw | milk | the barn
    puppy | whined | bounded | leg | meat | the yard next door
    lamb | bleated | trotted | leg | clover | the sheep field
    duckling | peeped | waddled | foot | bread crumbs | the pond
    chick | cheeped | scampered | wing | seeds | the hen house
    calf | mooed | trotted | leg | hay | the farm
    piglet | squealed | scurried | leg | turnips | the pig pen
    sparrow | chirped | fluttered | wing | crumbs | its nest
    robin | tweeted | flew | wing | worms | its nest
    foal | whinnied | galloped | leg | oats | the stable
    owlet | hooted | flapped | wing | beetles | the hollow elm
    fawn | bleated | leaped | leg | soft leaves | the thicket
    bunny | squeaked | hopped | foot | lettuce | its hutch
    goat | bleated | skipped | horn | thistles | the goat shed
    gosling | honked | waddled | foot | grass | the reeds
    pigeon | cooed | flapped | wing | peas | the church tower
    frog | croaked | hopped | leg | flies | the marsh
    turtle | grunted | crawled | leg | dandelions | the creek
    cygnet | peeped | glided | wing | water weeds | the lake
    baby seal | barked | slid | flipper | fish | the sea
    donkey | brayed | trotted | leg | thistles | the stable
    crow | cawed | flew | wing | corn | its tree
    """,
)

# Those that one can hold in one's arms and look after for a friend.
_SMALL = {
    "kitten", "puppy", "lamb", "duckling", "chick", "piglet", "sparrow", "robin", "owlet", "bunny", "gosling", "pigeon",
    "turtle", "fawn", "cygnet", "frog",
}  # fmt: skip
WARDS = tuple(row for row in BEASTS if row["_"] in _SMALL)

# Pets that can be blamed, follow along, or make a noise in the night.
PETS = table(
    "_ | sound | went",
    """
    cat | purred | slipped
    dog | barked | bounded
    parrot | squawked | flew
    goat | bleated | trotted
    hen | clucked | strutted
    pony | neighed | trotted
    magpie | chattered | fluttered
    puppy | yapped | tumbled
    kitten | mewed | crept
    goose | honked | marched
    """,
)

TRAITS = table(
    "_ | habit | noun",
    """
    curious | {He} asked "why" all day long. | a curious heart
    brave | {He} was not even afraid of thunder. | a brave heart
    shy | {He} looked down at {his} feet when someone said hello. | a gentle heart
    cheerful | {He} hummed a tune from morning to night. | a cheerful heart
    stubborn | When {he} made up {his} mind, nobody could change it. | a strong will
    clever | {He} could solve almost any riddle. | a clever head
    kind | {He} carried every snail off the path so that nobody would step on it. | a kind heart
    silly | {He} wore {his} clothes inside out just to make people laugh. | a silly grin
    careful | {He} looked twice before every step. | a careful mind
    careless | {He} left {his} things lying all over the place. | a good heart
    impatient | Waiting was the hardest thing in the world for {him}. | a quick heart
    proud | {He} held {his} nose high in the air. | a proud heart
    playful | {He} could turn anything into a game. | a playful heart
    gentle | {He} never stepped on a single ant. | a gentle heart
    lively | {He} could not sit still for one minute. | lots of energy
    quiet | {He} liked to listen more than to talk. | a quiet voice
    helpful | {He} set the table every night without being asked. | a helpful heart
    dreamy | {He} could look at the clouds for hours. | a dreamy heart
    messy | There was always jam on {his} chin. | a messy face
    bold | {He} was always the first to try something new. | a bold heart
    friendly | {He} waved at everyone {he} met. | a friendly face
    grumpy | {He} frowned before breakfast every single day. | a soft heart inside
    lazy | {He} liked to nap in the sun after lunch. | a sleepy face
    polite | {He} never forgot to say please and thank you. | good manners
    thoughtful | {He} thought about things for a long time. | a thoughtful mind
    adventurous | {He} dreamed of faraway islands. | a bold heart
    honest | {He} always told the truth, even when it was hard. | an honest heart
    energetic | {He} raced everywhere as if {his} feet were on fire. | fast feet
    imaginative | {He} saw dragons in every puddle. | a head full of dreams
    tidy | {He} lined up {his} shoes every evening. | a tidy room
    """,
)

ELDERS = table(
    "_ | call | he | him | his",
    """
    {his} mom | Mom | she | her | her
    {his} dad | Dad | he | him | his
    {his} mother | Mother | she | her | her
    {his} father | Father | he | him | his
    {his} grandma | Grandma | she | her | her
    {his} grandpa | Grandpa | he | him | his
    {his} mama | Mama | she | her | her
    {his} papa | Papa | he | him | his
    {his} nana | Nana | she | her | her
    """,
)

_TITLES = (("Mr.", "he", "him", "his", "man"), ("Mrs.", "she", "her", "her", "woman"))
NEIGHBORS = tuple(
    {"_": f"{title} {name}", "he": he, "him": him, "his": his, "man": man}
    for name in SURNAMES
    for title, he, him, his, man in _TITLES
)

JOBS = table(
    "_ | does",
    """
    baker | sold warm bread
    farmer | kept cows and hens
    gardener | grew roses
    tailor | sewed coats and trousers
    carpenter | made chairs and tables
    teacher | taught at the school
    doctor | looked after the sick
    librarian | lent books to everyone
    sailor | told tales of the sea
    painter | painted houses
    shepherd | looked after the sheep
    blacksmith | hammered iron all day
    potter | made cups and bowls
    mail carrier | brought the letters
    clockmaker | mended clocks
    cook | made the best soup
    beekeeper | had six humming hives
    shopkeeper | sold string and candy
    musician | played the violin
    fisher | mended nets by the water
    """,
)
OLD_ANIMALS = table(
    "_ | does",
    """
    owl | knew many things
    tortoise | had lived for a hundred years
    goat | chewed on everything
    toad | sat on a wet stone all day
    goose | told everyone what to do
    heron | stood in the shallow water
    donkey | carried wood
    stork | had seen the whole world
    crow | collected shiny things
    porcupine | grumbled about the noise
    moose | walked slowly through the trees
    ram | had great curly horns
    """,
)

# A stranger who is feared first; `fear` is the rumor, `truth` what was really so.
STRANGERS = table(
    "_ | adj | seen | rumor | truth",
    """
    giant | huge/shaggy/lonely | a shadow as big as a barn | ate children for lunch | only ate turnip soup
    troll | hairy/green/gruff | a lumpy shape under the bridge | threw rocks at people | collected pretty rocks
    witch | crooked/whispering/old | a pointed hat behind a bush | turned cats into frogs | made medicine for sick cats
    dragon | smoky/scaly/red | a puff of smoke above the hill | burned down houses | used its fire to bake bread
    ogre | big/grumpy/spotted | footprints as long as a bench | cooked everyone in a pot | cooked pots of plum jam
    monster | furry/blue/enormous | two round eyes in the dark | hid under beds to bite toes | was scared of the dark
    bear | giant/growly/brown | claw marks on a tree | chased everyone away | wanted somebody to play with
    wolf | gray/hungry/lean | a gray tail behind the bushes | gobbled up lambs | liked to eat blueberries
    ghost | pale/moaning/see-through | something white between the trees | howled at people until they fainted | sang because it was lonely
    lion | roaring/wild/mighty | big paw prints in the mud | bit off tails | had a thorn in its paw
    crocodile | snappy/long/toothy | two bumps in the water | swallowed boats | had a toothache
    yeti | snowy/mysterious/tall | a white shape in the fog | froze people into ice | knitted warm mittens
    """,
)

FEELINGS = table("_", "happy\nglad\ndelighted\nthankful\njoyful\nmerry\ncontent\nthrilled")
