"""Things a story can turn on, with the adjectives that fit them. One row a word: see ``grammar.table``."""

from __future__ import annotations

from .grammar import table

# A thing small enough to carry, lose, lend or give; `use` is what one does with it.
THINGS = table(
    "_ | adj | use",
    """
    ball | red/bouncy/striped/rubber | bounce it up and down
    kite | yellow/huge/colorful | watch it dance in the sky
    doll | pretty/wooden/tiny | brush its hair
    drum | loud/round/noisy | tap on it with two sticks
    hat | tall/floppy/purple | wear it every day
    scarf | woolly/warm/stripy | wrap it around {his} neck
    button | shiny/golden/round | rub it for luck
    ring | silver/sparkly/thin | see it shine in the sun
    shell | pink/smooth/curly | hold it to {his} ear
    marble | glass/green/swirly | roll it across the floor
    whistle | tin/loud/silver | blow it as hard as {he} could
    bell | brass/little/cheerful | ring it at breakfast
    book | thick/old/picture | look at it before bed
    cup | blue/cracked/painted | drink milk from it
    spoon | wooden/long/bent | stir soup with it
    basket | brown/straw/light | carry berries in it
    lantern | bright/paper/rusty | light up the path with it
    blanket | soft/cozy/fuzzy | sleep under it
    pillow | fluffy/white/plump | rest {his} head on it
    teddy bear | brown/cuddly/worn | hug it at night
    toy train | fast/wooden/black | push it along the floor
    toy boat | blue/tiny/fine | float it in the tub
    wagon | red/creaky/sturdy | pull it up and down the path
    puzzle | tricky/easy/wooden | put the pieces together
    crayon | orange/waxy/short | draw suns with it
    paintbrush | thin/bushy/new | paint rainbows with it
    flute | slim/silver/wooden | play little songs on it
    key | rusty/heavy/golden | wonder what it opened
    coin | shiny/lucky/copper | flip it in the air
    feather | white/gray/light | tickle {his} nose with it
    stone | smooth/flat/speckled | keep it in {his} pocket
    ribbon | silky/green/long | tie it into a bow
    umbrella | big/spotted/yellow | twirl it in the rain
    map | wrinkled/secret/old | follow the lines with one finger
    mirror | round/clear/little | make funny faces in it
    magnet | strong/red/heavy | pick up pins with it
    necklace | sparkly/beaded/pretty | count its beads
    crown | paper/golden/glittery | play kings and queens
    cape | red/magic/long | pretend to fly
    mask | funny/scary/painted | hide {his} face behind it
    puppet | silly/furry/floppy | make it talk
    rope | thick/strong/long | jump over it
    bucket | yellow/plastic/deep | fill it with sand
    shovel | small/metal/sharp | dig holes with it
    clock | noisy/ticking/little | hear it tick
    jar | empty/clear/glass | keep pebbles in it
    box | square/secret/wooden | keep treasures in it
    bag | big/heavy/patched | carry it everywhere
    pencil | sharp/stubby/orange | write {his} name with it
    sock | woolly/spotted/stripy | make a puppet out of it
    sweater | itchy/thick/warm | wear it on cold days
    coat | thick/blue/furry | feel its deep pockets
    slipper | soft/fluffy/warm | slide along the floor in it
    mitten | red/tiny/knitted | clap in it
    cap | green/soft/round | pull it over {his} eyes
    medal | gold/heavy/bright | show it to everyone
    trumpet | loud/brass/shiny | toot on it in the morning
    balloon | purple/huge/shiny | hold it by its string
    robot | metal/clever/square | wind it up
    toy truck | dusty/strong/yellow | load it with sand
    toy car | speedy/orange/little | race it down the hill
    rocket | silver/tall/cardboard | count down from ten
    toy dinosaur | green/fierce/scaly | make it roar
    toy dragon | purple/friendly/scaly | make it breathe pretend fire
    music box | pretty/tinkly/old | listen to its sweet song
    snow globe | pretty/glass/sparkly | shake it and watch the snow
    yo-yo | red/quick/wooden | make it go up and down
    spinning top | bright/dizzy/painted | watch it twirl
    jump rope | long/pink/new | skip with it
    pinwheel | shiny/colorful/paper | blow on it
    telescope | long/black/brass | look at the moon
    compass | small/clever/brass | find out which way was north
    backpack | roomy/orange/sturdy | fill it with snacks
    notebook | thin/blank/blue | draw in it
    locket | silver/tiny/shiny | open and close it
    watering can | green/leaky/tin | water the flowers with it
    bow tie | red/spotted/fancy | wear it on Sundays
    """,
)

# Those that break when two pull at them.
_BRITTLE = {
    "kite", "doll", "drum", "shell", "cup", "spoon", "basket", "lantern", "toy train", "toy boat", "puppet", "flute",
    "umbrella", "crown", "mask", "clock", "jar", "box", "mirror", "toy truck", "toy car", "rocket", "music box",
    "pinwheel", "necklace", "telescope", "pencil", "wagon", "map", "robot", "feather", "paintbrush", "crayon",
}  # fmt: skip
BREAKABLES = tuple(row for row in THINGS if row["_"] in _BRITTLE)

# Those that nobody would be glad to win or to be given.
_PLAIN = {
    "button", "spoon", "stone", "key", "rope", "bucket", "shovel", "jar", "box", "bag", "pencil", "sock", "slipper",
    "mitten", "pillow", "coin", "feather", "mirror", "coat", "sweater", "marble", "crayon", "magnet", "cap", "cup",
    "ribbon", "clock", "basket", "watering can",
}  # fmt: skip
PRIZES = tuple(row for row in THINGS if row["_"] not in _PLAIN)

# Food that can be shared or smelled.
FOODS = table(
    "_ | adj",
    """
    apple | crisp/juicy/red
    pear | ripe/sweet/green
    peach | soft/fuzzy/juicy
    plum | purple/ripe
    banana | yellow/ripe
    cookie | crunchy/warm/sugary
    cupcake | pink/tasty/tiny
    pie | hot/golden/delicious
    muffin | fresh/soft/warm
    pancake | fluffy/buttery
    sandwich | cheesy/thick
    cake | creamy/tall/yummy
    bun | sticky/warm/sweet
    pretzel | salty/twisty
    waffle | crispy/hot
    biscuit | crumbly/buttery
    melon | juicy/round
    orange | bright/sweet
    coconut | hairy/hard
    carrot | long/crunchy
    pumpkin tart | spicy/warm
    jelly roll | sticky/sweet
    corn cob | golden/buttery
    loaf of bread | fresh/crusty
    gingerbread cookie | spicy/brown
    lollipop | swirly/giant
    lemon tart | sour/tangy
    bag of nuts | crunchy/salty
    jar of honey | golden/sticky
    bowl of soup | hot/creamy
    bunch of grapes | cold/juicy
    box of raisins | chewy/sweet
    """,
)

# Something friends can build together, what it is made of, and what it is for.
BUILDS = table(
    "_ | adj | from | use | spot",
    """
    tree house | secret/wooden/wonderful | boards and nails | watch the birds from up there | in the big oak tree
    sand castle | grand/tall/royal | wet sand and shells | play princes and dragons | by the water
    hay fort | mighty/golden/square | big bales of hay | play knights behind it | in the wide field
    raft | sturdy/flat/floating | logs and rope | float around like pirates | beside the pond
    tent | cozy/secret/leafy | sticks and an old sheet | tell stories in it | under the apple tree
    bridge | little/strong/narrow | flat stones and planks | cross without getting wet | over the stream
    birdhouse | tiny/cheerful/yellow | thin wood and paint | give the birds a home | on the fence post
    scarecrow | funny/raggedy/tall | straw and old clothes | keep the crows away | in the corn field
    race cart | speedy/wobbly/red | a box and four wheels | roll down the hill | on the hill
    swing | simple/high/lovely | a board and two ropes | fly up to the leaves | under the willow tree
    puppet stage | fancy/bright/small | cardboard and curtains | put on a show | in the garden shed
    dam | muddy/strong/clever | twigs and mud | make a little pool | in the brook
    windmill | paper/spinning/clever | paper, pins and a stick | watch it turn | on top of the hill
    bench | plain/wooden/sturdy | two stumps and a plank | sit and look at the sunset | beside the path
    clubhouse | secret/crooked/cozy | crates and branches | have secret meetings | behind the bushes
    rabbit hutch | snug/clean/wooden | wire and planks | keep the baby rabbits safe | near the barn
    lookout tower | high/wooden/wobbly | poles and ropes | look out over the whole valley | on the green hill
    """,
)

# A plant that can be grown from a seed, and what it turns into.
SEEDS = table(
    "_ | adj | grew | end",
    """
    sunflower | tall/golden/cheerful | a thick green stem | It was as yellow as the sun and taller than the fence.
    pumpkin | huge/orange/round | a long curly vine | It was so big that nobody could lift it.
    tomato | ripe/red/juicy | a leafy little bush | It was red and warm from the sun.
    strawberry | sweet/tiny/ripe | three small leaves | It smelled like summer.
    tulip | pink/graceful/bright | a smooth green bud | It opened like a little cup.
    bean | magic/long/green | a stem that climbed up a stick | It hung down like a green finger.
    watermelon | giant/stripy/cool | a vine that crept along the ground | It was full of sweet pink juice.
    poppy | scarlet/silky/thin | a hairy stem | Its petals danced in the breeze.
    pea | plump/sweet/round | a plant with curly arms | Five green balls sat inside the pod.
    cabbage | leafy/round/crinkly | a ring of wide leaves | It was as big as a drum.
    marigold | orange/bright/merry | a bushy little plant | It glowed like a tiny fire.
    cucumber | cool/bumpy/long | a prickly vine | It was crunchy and full of water.
    radish | rosy/crunchy/small | a bunch of rough leaves | It popped out of the soil like a red nose.
    bluebell | dainty/pretty/shy | a slim green stalk | It nodded its head in the wind.
    """,
)

# A present one can make with care.
GIFTS = table(
    "_ | adj | from | made | ruin",
    """
    card | shiny/cheerful/folded | paper and glitter | cut and glued | the glue spilled all over it
    picture | bright/big/painted | paper and paint | painted and painted | a cup of water tipped over on it
    necklace | beaded/long/pretty | string and beads | threaded one bead after the other | the string snapped and the beads rolled away
    scarf | knitted/stripy/woolly | soft yarn | knitted and knitted | a long thread came loose and it got a hole
    pot | clay/round/crooked | wet clay | pressed and rolled | it cracked down one side
    clay bird | blue/tiny/round | soft clay and paint | shaped and painted | the beak fell off
    doll | rag/small/smiling | cloth and yarn | sewed and stuffed | one of its arms came off
    fan | folded/bright/painted | paper and two sticks | folded and colored | the paper ripped
    mug | clay/big/striped | clay and blue paint | rolled and painted | the handle broke off
    basket | straw/neat/round | long dry grass | twisted and wove | the handle came off
    wreath | leafy/green/pretty | leaves and berries | tied and twisted | half of the berries fell off
    paper flower | pink/curly/delicate | thin paper and wire | folded and curled | the rain made it limp
    toy horse | wooden/smooth/small | a block of wood | carved and sanded | one of its legs broke off
    cushion | velvet/plump/patched | cloth and feathers | cut and stitched | the feathers puffed out everywhere
    bookmark | narrow/neat/painted | ribbon and card | cut and colored | it tore in two
    frame | golden/square/shell | sticks and shells | counted and glued | three shells fell off
    """,
)

COLORS = table(
    "_",
    "red\nblue\ngreen\nyellow\npurple\norange\npink\nbrown\nwhite\nblack\ngray\ngolden\nsilver\ncrimson\nturquoise",
)
FLOWERS = table(
    "_", "tulip\nbuttercup\nrosebud\ndandelion\nbluebell\nsnowdrop\nprimrose\npansy\nforget-me-not\ncornflower\npeony"
)
CLOTHES = table(
    "_",
    "red boots\nblue overalls\na yellow raincoat\na green jacket\na straw hat\na spotted scarf\na knitted vest\n"
    "striped socks\na purple cap\nan orange sweater\na checkered shirt\na tiny waistcoat\nbig round glasses\n"
    "a silver pin\na woolen cloak",
)
# What has candles on it at a birthday.
TREATS = table(
    "_ | adj",
    """
    chocolate cake | tall/dark/big
    carrot cake | sweet/spicy/moist
    strawberry cake | pink/creamy/giant
    honey cake | golden/sticky/round
    apple pie | warm/crispy/big
    blueberry pie | juicy/sweet
    lemon cake | yellow/light/fluffy
    vanilla cake | white/lovely/huge
    nut cake | crunchy/brown
    cherry tart | red/shiny/tasty
    ginger cake | dark/spicy
    berry pudding | wobbly/purple
    """,
)
WEEKDAYS = table("_", "Monday\nTuesday\nWednesday\nThursday\nFriday\nSaturday\nSunday")
