"""Places, what is there, and what one does where. One row a word: see ``grammar.table``."""

from __future__ import annotations

from .grammar import table

# Out of doors: `at` is the phrase for being there, `seen` is what lives or lies there, `hide` where a thing can hide.
_BOTH = """
    meadow | in the meadow | butterflies | in the tall grass | the grass
    pond | by the pond | ducks | between the reeds | the mud
    hill | on the hill | grazing sheep | behind a big rock | the grass
    orchard | in the orchard | ripe apples | under an apple tree | the leaves
    stream | by the stream | tiny fish | between two wet stones | the sand
    beach | on the beach | crabs and seaweed | under a pile of seaweed | the sand
    forest | in the forest | ferns and mushrooms | under a fern | the moss
    field | in the field | poppies | behind a haystack | the straw
    valley | in the valley | wild ponies | beside a fallen log | the clover
    riverbank | on the riverbank | dragonflies | under a willow root | the mud
    berry patch | in the berry patch | red and blue berries | under a thorny bush | the leaves
    old mill | near the old mill | spinning wheels | behind the millstone | the dust
    """
WILD_PLACES = table("_ | at | seen | hide | ground", _BOTH)
PLACES = WILD_PLACES + table(
    "_ | at | seen | hide | ground",
    """
    park | in the park | fountains and benches | under a bench | the grass
    playground | at the playground | swings and slides | under the slide | the sand
    garden | in the garden | bees and roses | in the flower bed | the soil
    farm | at the farm | cows and hens | behind the barn | the hay
    market | at the market | stalls full of fruit | under a fruit stall | the floor
    zoo | at the zoo | monkeys and zebras | beside the monkey house | the path
    school yard | in the school yard | chalk drawings | behind the water tap | the ground
    harbor | at the harbor | fishing boats and gulls | inside a coil of rope | the planks
    library garden | in the library garden | tall hedges | behind a hedge | the gravel
    village square | in the village square | pigeons and a fountain | beside the fountain | the stones
    """,
)

# What a hero loves to do: the first word is the story's verb. `at` is where, `with` is how.
_DO_BOTH = """
    swim | in the cool lake | like a fish
    climb trees | near {his} home | as high as {he} could
    sing | in the morning | at the top of {his} voice
    dance | in the rain | on the tips of {his} toes
    run | down the long path | as fast as the wind
    skip | along the lane | with a happy bounce
    dig holes | in the soft ground | until {he} was covered in dirt
    hide | behind the bushes | without making a sound
    hop | over puddles | on one foot
    roll | down the grassy slope | over and over
    splash | in the puddles | until {he} was soaked
    explore | the woods nearby | with a stick in {his} {hand}
    whistle | on the way home | like a bird
    paint | outside in the sun | with every color
    tell stories | by the fire | in a spooky voice
    slide | down the muddy bank | from the top to the bottom
    count stars | at night | until {he} fell asleep
    chase butterflies | on sunny days | without ever catching one
    collect pebbles | by the water | and put them in rows
    pick berries | behind the fence | and eat half of them
    build | with sticks and stones | higher and higher
    jump | over logs | with both feet
    spin | round and round | until {he} was dizzy
    fish | by the old bridge | with a long stick
    juggle | with three pine cones | without looking
    sail | on the pond | in a wooden tub
    draw | in the sand | with one finger
    bake | on rainy days | with lots of flour
    race | around the big rock | against the wind
    wander | through the trees | without a plan
    march | up and down | like a soldier
    gather acorns | in the fall | and hide them away
    tumble | in the soft hay | head over heels
    """
WILD_DOINGS = table("_ | at | with", _DO_BOTH)
DOINGS = WILD_DOINGS + table(
    "_ | at | with",
    """
    read | in bed | with a flashlight
    sew | by the window | with tiny stitches
    cook | in the kitchen | in a big apron
    skate | down the smooth road | in circles
    ride | around the block | on a little bicycle
    fly kites | on windy days | with a long string
    knit | by the warm stove | with two needles
    play chess | after supper | against {himself}
    garden | behind the house | with a small rake
    swing | in the back yard | up to the sky
    drum | on pots and pans | very loudly
    act | in little plays | in a funny costume
    write | at the kitchen table | with a blue pen
    camp | in the back yard | in an old tent
    """,
)

# A thing that can be learned; `fail` is how the first try ends, `tip` what the teacher says, `well` how it goes at last.
_SKILLS_BOTH = """
    swim across the pond | sank like a stone and swallowed a lot of water | Kick your legs and keep your chin up | glided all the way to the other side
    climb the tall pine tree | got halfway and slid back down | Hold on tight and look up, not down | reached the very top
    whistle a tune | only made a sad little puff of air | Make your lips round and blow gently | whistled loud and clear
    skip stones | heard nothing but a fat plop | Pick a flat stone and throw it low | made the stone hop five times
    walk on a log | wobbled and fell into the mud | Spread your arms and look straight ahead | walked across without a wobble
    bake bread | pulled a hard black lump out of the oven | Wait for the dough to rise and watch the fire | baked a soft golden loaf
    tie a knot | ended up with both thumbs stuck | Make one loop, go around and pull it through | tied a knot that nobody could undo
    catch a ball | got hit right on the nose | Keep your eyes on the ball and open your {hands} | caught the ball ten times in a row
    row a boat | went round and round in circles | Pull both oars at the same time | rowed straight across the water
    juggle | dropped everything on the floor | Start with one, then two, then three | kept three balls in the air
    dance | tripped over two clumsy feet | Listen to the music and count to four | danced like a leaf in the wind
    do a handstand | fell over backward like a sack | Put your palms flat and kick up slowly | stood upside down, as straight as a candle
    sing in tune | sounded like a squeaky door | Listen first and then sing softly | sang as sweetly as a bird
    paint a face | painted something like a potato | Look closely before you paint | painted a face that seemed to smile
    """
WILD_SKILLS = table("_ | fail | tip | well", _SKILLS_BOTH)
SKILLS = WILD_SKILLS + table(
    "_ | fail | tip | well",
    """
    ride a bicycle | tipped over into a bush | Look ahead and keep pedaling | rode all the way down the street
    read a whole book | mixed up all the letters | Read one word at a time and do not hurry | read the book from the first page to the last
    tie shoes | got the laces in a big tangle | Make two bunny ears and cross them | tied two perfect bows
    play the violin | made a noise like an angry cat | Move the bow slowly and stand up straight | played a song that made people cry
    fly a kite | saw it crash into a hedge | Run into the wind and let the string out slowly | watched the kite climb above the roofs
    do a cartwheel | fell flat on the grass | Put your hands down one after the other | turned three cartwheels in a row
    """,
)

# Where a small creature can be stuck: `how` it got there, `free` what the hero does with the tool at last.
STUCKS = table(
    "_ | tool | free",
    """
    in a thorny bush | a pair of thick gloves/a long forked stick | bent the thorns aside one by one
    down a deep hole | a long plank/a strong branch | slid it down so that the little one could climb up
    between two fence boards | a piece of wood/an iron bar | pushed the boards apart
    in an old fishing net | a small pair of scissors/a sharp stone | cut the strings one after the other
    under a fallen branch | a strong pole/a thick rope | lifted the branch just a little
    in the sticky mud | a wide board/a loop of rope | laid it on the mud and pulled gently
    on a rock in the middle of the stream | a long log/an old door | pushed it over the water like a bridge
    inside an empty barrel | a big stone/a wooden wedge | tipped the barrel onto its side
    high up on a ledge | a ladder/a tall crate | climbed up carefully and reached out
    in a tangle of string | a pair of scissors/a little knife | snipped the string loop by loop
    """,
)

# A rule and what happens when it is broken. `rule` and `deed` start with a verb.
RULES = table(
    "_ | where | adj | rule | deed | harm | fix",
    """
    ladder | against the barn wall | wobbly/tall/old | climb the ladder | climbed up to the very top | The ladder tipped over, and there was no way down | put the ladder back and held it still
    jar of paint | in the tool shed | bright/sticky/full | open the jar of paint | pulled off the lid | Paint splashed over the floor, the walls and the curtains | brought rags and soap
    bridge | over the gorge | rotten/creaky/narrow | walk on the bridge | took three steps onto it | A board broke, and one leg went right through | reached out with a long pole
    beehive | under the lime tree | humming/round/busy | touch the beehive | gave it a little poke | A cloud of angry bees came buzzing out | waved smoke at the bees until they flew away
    well | at the end of the garden | deep/dark/mossy | lean over the well | leaned over to see the water | {He} slipped and was left hanging on the rope | pulled up the rope with both arms
    candle | on the kitchen table | tall/hot/burning | play with the candle | picked it up to make shadows | The candle fell, and the tablecloth began to smoke | poured a jug of water over it
    gate | by the sheep field | rusty/iron/heavy | open the gate | lifted the latch | All the sheep ran out onto the road | called the sheep back one by one
    cupboard | under the stairs | locked/dusty/dark | go into the cupboard | squeezed inside and pulled the door shut | The door would not open again | broke the latch with a hammer
    log | over the river | slippery/wet/mossy | walk on the log | balanced out to the middle | The log rolled over, and {he} fell into the cold water | held out a long branch
    boat | down at the landing | leaky/small/loose | get into the boat | sat down in it and untied the knot | The boat drifted far out on the water | swam out and towed the boat back
    pot | on the stove | steaming/heavy/hot | lift the lid of the pot | lifted the lid to smell it | Hot steam puffed out and stung {his} {hand} | brought a bowl of cool water
    vase | in the hall | blue/tall/precious | play near the vase | ran a race around the table | The vase fell and broke into a hundred pieces | picked up every piece with a brush and pan
    mushroom | at the edge of the woods | spotted/red/strange | taste the mushroom | took one tiny bite | A terrible pain came, and {he} had to lie down | made a cup of bitter tea
    cave | in the hillside | dark/cold/twisty | go into the cave | crept inside to hear the echo | It was so dark that the way out was nowhere to be seen | came with a bright lamp
    """,
)

TREES = table("_", "oak\nbeech\nbirch\nchestnut tree\npine tree\nmaple tree\nlinden\nspruce\ncherry tree\nwalnut tree")
WEATHERS = table(
    "_", "sunny\nbright\nwarm\nbreezy\nclear\nfine\nlovely\nmild\nfresh\ngolden\npleasant\nbeautiful\nsleepy\nquiet"
)
NOISES = table(
    "_ | adj | cause",
    """
    scratch | soft/slow/creepy | a branch that scratched at the window
    thump | heavy/dull/sudden | the shutter that banged in the wind
    squeak | tiny/high/funny | a loose hinge on the gate
    growl | deep/low/hungry | an old dog snoring in its sleep
    drip | slow/steady/hollow | water dripping into a bucket
    whistle | thin/eerie/long | the wind in the chimney
    rustle | dry/quick/secret | dry leaves blowing along the wall
    knock | quiet/hollow/odd | an acorn rolling down the roof
    creak | long/wooden/slow | the old stairs cooling down in the night
    howl | lonely/far/sad | the wind around the corner
    rattle | sharp/busy/odd | a pot lid shaking on the stove
    hoot | ghostly/round/low | an owl on the roof
    buzz | faint/angry/sleepy | a fly caught in a jar
    """,
)
