"""Beats that many plots share: how a story opens and how it closes. See ``grammar`` for the notation."""

from __future__ import annotations

SHARED = {
    # Every line of the first beat names the hero and the town: stories are told apart by it (see `__init__`).
    "open": """
?child
Once upon a time, there was {a trait} little {boy} named {H}, who lived in [a small house|a yellow house|a tiny cottage] in {town}.
Once upon a time, in the [little|quiet|old] town of {town}, there lived {a trait} {boy} named {H}.
In {town}, at the end of a [long|narrow|winding] lane, lived {a trait} little {boy} called {H}.
There once was {a trait} {boy} in the town of {town}. {His} name was {H}.
Here is {H}, {a trait} little {boy} from {town}.
There was a family in {town} with only one child, {a trait} {boy} named {H}.
In {town}, where the [river bends|hills are green|bells ring at noon], there lived {a trait} {boy} called {H}.
This is a story about {H}, {a trait} little {boy} who lived in {town}.
There was {a boy} named {H} who wore {clothes} and lived in {town}. {He} was very {trait}.
On a hill in {town} stood a house with {a color} door. {A trait} {boy} named {H} lived there.
Long ago, [a family|a little family] lived in {town}. They had {a trait} little {boy} named {H}.
Not far from the [church|bakery|market] in {town} lived {a boy} named {H}. {He} was a very {trait} {boy}.
Everyone in {town} knew {H}. No other {boy} [on the street|in the whole town] was so {trait}.
In {town}, {H} lived with {elder}. {He} was {a trait} {boy} with [big brown eyes|freckles on {his} nose|curly hair|a gap between {his} teeth].

?animal
Once upon a time, {a trait} little {boy} named {H} lived in the woods near {town}.
This is a story about {H}, {a trait} {boy} who lived under the trees of {town}.
If you walk from {town} into the woods, you come to {a home}. {A trait} {boy} named {H} lived there.
This is {H}, a little {boy} from the woods of {town}. {He} wore {clothes} and was very {trait}.
Far away, near {town}, there lived {a boy} with {coat}. {His} name was {H}, and {he} was very {trait}.
Deep in the [green|old|quiet] woods of {town}, there lived {a trait} {boy} named {H}.
Once there was a little {boy} called {H}. {He} had {coat} and lived [on a hill above|in the fields behind|by the river near] {town}.
In the trees behind {town}, there was {a home}. In it lived {a trait} {boy} named {H}.
Of all the animals in the {town} woods, none was so {trait} as {H} the {boy}.
A little {boy} named {H} lived near {town}. {He} had {coat} and was very {trait}.
There once was {a trait} {boy} named {H}, who lived near {town} with {elder}.

!short
~
{trait.habit}
{trait.habit}
"What {a trait} {boy} you are!" {elder} [often said|liked to say|always said].

More than anything, {H} loved to {do} {do.at}.
{H} loved to {do} {do.with}.
Every day, {he} liked to {do} {do.at}.
On most days, {H} would {do} {do.with}.
{H} had one great joy. {He} loved to {do} {do.at}.
{He} liked many things, but most of all {he} liked to {do}.
"I was born to {do}!" {H} liked to say.
Nothing made {H} happier than to {do} {do.with}.
Whenever {he} could, {H} would {do} {do.with}.
On good days and on bad days, {he} would {do} {do.at}.
In all the world, there was nothing {he} liked more than to {do}.
"I want to {do}!" was the first thing {H} said every morning.
When {H} was happy, {he} would {do} {do.with}.
""",
    "thing": """
{H} had {a thing.adj} {thing}. {He} liked to {thing.use}.
There was {a thing.adj} {thing} that belonged to {H}. {He} liked to {thing.use}.
Nobody was allowed to touch {his} {thing.adj} {thing}. Every evening, {he} liked to {thing.use}.
{His} best treasure was {a thing.adj} {thing}, and {he} loved to {thing.use}.
For {his} birthday, {elder} had given {him} {a thing.adj} {thing}. {He} liked to {thing.use}.
{He} also had {a thing.adj} {thing} that {he} took everywhere. {He} liked to {thing.use}.
Of all the things {he} had, {H} liked {his} {thing.adj} {thing} best, because {he} could {thing.use}.
{Elder} had once found {a thing.adj} {thing} and saved it for {H}. Now {he} liked to {thing.use} whenever {he} could.
""",
    "friend": """
{His} best friend was {a F.boy} named {F}.
{He} had a good friend named {F}, {a trait2} {F.boy} [from next door|who lived close by|with a loud laugh].
{H} and {F} the {F.boy} did everything together.
Nearly every day, {F} came over. {F} was {a trait2} {F.boy} and {his} best friend.
{H} was never alone, for {he} had {F}, {a trait2} {F.boy}, as a friend.
Where {H} was, there was also {F}, {a trait2} {F.boy} and a very good friend.
{A F.boy} named {F} [lived nearby|lived just around the corner], and the two of them were always together.
Most days {H} played with {F}, {a trait2} little {F.boy}.
""",
    "happy": """
{H} felt {feeling} all the way down to {his} toes.
From that day on, {H} smiled every time {he} thought of it.
That night, {H} fell asleep with a smile on {his} face.
It was the best day {H} had ever had.
That evening, {elder} told the story again and again.
{H} looked up at the first star and made a wish.
When {elder} blew out the lamp, {H} was already asleep.
{F} waved, and {H} waved back for a long time.
At supper, {H} could not stop talking about it.
And that was the end of a very good day in {town}.
{H} hummed a little song before {he} fell asleep.
They all lived happily ever after.
{H} went to bed tired and {feeling}.
And {H} and {F} stayed good friends for ever and ever.
Even years later, {H} and {F} liked to talk about it.
That was how it was, and everybody in {town} still tells the story.
{H} had never felt so {feeling} before.
And the next day, {H} was up early, ready to {do} again.
The sun went down over {town}, and {H} was {feeling}.
"What a day!" said {H}, and {he} laughed out loud.
{Elder} gave {H} a big hug, and everything was good again.
""",
    "play": """
After that, they went off to {do} together.
Then it was time to {do}, and {F} came along.
"Shall we {do} now?" asked {F}. "Yes!" said {H}.
And then {H} went off to {do}, just as {he} always did.
{H} laughed and wanted to {do} right away.
{F} laughed, {H} laughed, and they went off to {do}.
~
~

@happy
""",
    "calm": """
That night, {H} was allowed to sit close to {elder} for a long time.
{H} slept deeply that night, and when {he} woke up, the sun was shining.
The next day, {H} went to {do}, just as {he} always did, but {he} was a little wiser.
{Elder} made some warm milk, and they did not speak of it again.
And {H} never, ever forgot that day.
"I love you," said {elder}. "I love you, too," said {H}.
When {H} was old, {he} told this story to {his} own children.
{F} squeezed {H}'s {hand}, and everything was good again.
{H} was glad that it was over, and {F} was glad, too.
After that, {H} and {F} looked out for each other.
""",
    "sad": """
That night, {H} cried a little into {his} pillow.
For a long time, {H} did not even want to {do}.
There was nothing to be done, and {H} was very sad.
{Elder} held {him} for a long time, but it could not be changed.
{H} sat by the window until it was dark and did not say a word.
It was a sad end, and {H} never forgot it.
{H} wished that {he} could start the day all over again, but nobody can do that.
""",
}
