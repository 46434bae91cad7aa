"""Plots about things made and grown. See ``grammar`` for the notation."""

from __future__ import annotations

GIFT = """
@open

--
Soon it would be {elder}'s birthday. {H} wanted to give {elder.him} something special.
One day, {H} heard that tomorrow was {elder}'s birthday. But {he} had no money for a present.
{Elder} had been [tired|sick|sad] all week. {H} wanted to make {elder.him} smile.
It was almost winter, and {H} wanted to surprise {elder} with a present.

"I know! I will make {a gift.adj} {gift}," {he} said.
"I could make {a gift.adj} {gift} all by myself," {he} thought.
After a while, {he} clapped {his} {hands}. {He} would make {a gift.adj} {gift}!
{He} thought and thought. Then {he} had an idea. {He} would make {a gift.adj} {gift}!

{He} asked {F}, the {F.boy} next door, for {gift.from}.
{F}, {a trait2} {F.boy}, helped {him} find {gift.from}.
"You will need {gift.from}," said {his} friend {F}, {a trait2} {F.boy}. They got everything ready.

--
{He} {gift.made} all morning with {his} tongue between {his} teeth.
Then {H} {gift.made} until {his} {hand} was sore.
{He} closed the door, sat down and {gift.made}, as quiet as a mouse.
All afternoon, {H} {gift.made}, while {F} watched and handed {him} things.
For hours, {he} {gift.made}. {He} did not even stop to {do}.
{He} {gift.made}, and {he} hummed while {he} worked.

?foreshadow
"Be careful," said {F}. "It is not finished until it is finished."
Something wobbled a little at the edge of the table, but {H} did not see it.
"Don't hurry so much," {F} told {him}. But {H} did not listen.

?conflict
"That looks funny," said {F}. "You do it, then!" shouted {H}. Then {he} felt bad. "Sorry, {F}. I only want it to be perfect."
{F} wanted to do it another way, and they argued. In the end, they did half of it each way.

And then it happened: {gift.ruin}!
It was almost done when, all of a sudden, {gift.ruin}.
But just as {he} was about to finish, {gift.ruin}. "Oh no!" cried {H}.
Then there was a bump, and {gift.ruin}. "It is ruined!" {H} cried.

!short
{H} sat on the floor and wept. There was no time to start again.
Big tears ran down {his} cheeks. The {gift} did not look {gift.adj} anymore.
{He} wanted to hide the {gift} where nobody would ever see it.

?dialogue
"Don't give up," said {F}. "We can fix it a little." "But it will not be beautiful," said {H}. "It will be yours," said {F}.
"What should I do now?" asked {H}. "Give it to {elder.him} anyway," said {F}. "You made it with love."
"Maybe nobody will notice," said {F} kindly. "Everybody will notice," sniffed {H}.

--
!bad
The next morning, {H} held out the {gift} with both {hands}. "It is not very good," {he} said softly.
With a red face, {H} gave the {gift} to {elder}. "I wanted it to be better," {he} said.
In the evening, {H} put the {gift} on the table and looked at {his} feet.

?bad
In the end, {H} was so ashamed that {he} threw the {gift} away. In the morning, {he} had nothing to give.
So {H} hid the {gift} and said nothing. {Elder} waited all day, but nobody gave {elder.him} a present.

!bad !twist
{Elder} looked at it for a long time. Then {elder.he} smiled. "It is the most beautiful {gift} in the world, because you made it for me," {elder.he} said.
"Oh, {H}!" said {elder}, with wet eyes. "Did you make this all by yourself? I will keep it forever."
{Elder} put {elder.his} arms around {him}. "I can see how hard you worked," {elder.he} said. "I love it."

!bad ?twist
{Elder} began to laugh. {Elder.he} opened a drawer and took out an old, broken {gift}. "I made this one when I was little," {elder.he} said. "Mine broke, too! Now I have a pair."
{Elder} smiled. "I will tell you a secret," {elder.he} said. "Because it broke, nobody else in the whole world has {a gift} like this one. That is why I like it best."

?bad
@sad

?bad
Later, {elder} found the {gift}. "I would have loved it just as it was," {elder.he} said. But the day was over.
"I only wanted a hug from you," said {elder} at bedtime. {H} felt very small.

?moral
{H} learned that a present does not have to be perfect when it is made with love.
It is not the {gift} that counts, but the heart of the one who gives it.
So {H} found out that love can be seen even in crooked things.

!bad
@happy
"""

SEED = """
@open

--
One spring day, {neighbor}, the old {job}, gave {H} a tiny seed.
One {weather} day in spring, {H} found a tiny seed in {his} pocket. {neighbor}, the {job}, had put it there.
In spring, {neighbor}, the {job}, came by. "This is for you," {neighbor.he} said, and put a tiny seed into {H}'s {hand}.

"If you take care of it, it will be {a seed.adj} {seed}," said {neighbor}.
"There is {a seed.adj} {seed} asleep inside," said {neighbor}. "You have to wake it up."
"What is it?" asked {H}. "One day, it will be {a seed.adj} {seed}," said {neighbor}.

{H} dug a small hole, dropped the seed in and covered it with soil.
{H} pushed the seed into the [dark|soft|warm] earth with one finger and gave it some water.
{H} found a sunny spot, put the seed in the ground and patted the soil flat.
{H} made a little bed of earth for the seed and sang it a good night song.
Together with {F}, {a trait2} {F.boy}, {H} planted the seed behind the {home}.

?foreshadow
"Watch out for the [snails|birds|rabbits]," said {neighbor}. "They are always hungry."
"The best things take the longest," {neighbor} said with a wink.

--
The next day, {H} ran out to look. There was nothing. The day after that, there was still nothing.
Every morning, {he} looked at the ground, and every morning it was just [brown|bare|empty].
One day went by, and then another. Nothing came up.
Then {H} sat down next to the spot and waited. {He} waited all day, but nothing happened.
Once {H} put {his} ear on the ground, but {he} could not hear anything grow.
It rained, and the sun shone, and it rained again. But the ground stayed bare.

?dialogue
"When will it grow?" asked {H}. "Soon," said {elder}. "Is it soon now?" asked {H}. {Elder} laughed.
"Maybe it is dead," said {H}. "Maybe it is only sleeping," said {elder}.
"Grow!" {H} told the seed. "Please grow!" But the seed did not answer.

?conflict
"Dig it up and look," said {F}, {a trait2} {F.boy}. "No!" said {H}. "Then it will die." They were cross with each other all day.
{F} laughed at {him}. "You are watering mud!" said {F}. {H} turned {his} back and watered it anyway.

{F}, the {F.boy} next door, wanted to {do}. But first, {H} gave the seed its water, as {he} did every day.
{H} went out to {do} with {F}, but {he} always came back to water the seed.
"Come and {do}!" called {F}, the {F.boy} next door. "In a minute," said {H}. "First I have to water my seed."

--
!bad
Then, one {weather} morning, something green was there! Day by day it grew into {seed.grew}.
After [two|three] weeks, a little green tip peeked out. It became {seed.grew}.
And one morning after the rain, {H} gave a shout. The soil had cracked, and out came {seed.grew}.

?bad
Then, one morning, a green tip peeked out. {H} was so happy! But {he} got tired of watering it and stayed away for a week.
At last it grew into {seed.grew}. {H} was so proud that {he} stopped watering it and only wanted to {do}.

!bad ?twist
But in the night, something ate all the leaves! {H} hid behind a bush to see who it was. It was a thin little [bunny|goat|lamb]. {H} gave it [clover|hay|old lettuce] instead, and it never touched the plant again.
All summer, {H} waited for {a seed.adj} {seed}. And then not one came out, but seven! {neighbor} had given {him} a very special seed.

!bad
At last, there it was, {a seed.adj} {seed}! {seed.end}
By the end of summer, it had turned into {a seed.adj} {seed}. {seed.end}
When it was warm, the {seed} was ready. It was as {seed.adj} as {neighbor} had said. {seed.end}

?bad
When {he} came back, the plant was brown and dry. There would be no {seed.adj} {seed}.
A hot week came. The leaves hung down, and then they fell. There was not one {seed.adj} {seed} to be seen.

!bad !short
{F} stared with an open mouth. "You did it!" said {F}.
{H} showed it to everyone, and {neighbor} nodded. "You did not give up," {neighbor.he} said.
{H} and {F} danced around it, and {elder} took off {elder.his} hat.

?bad
@sad

?moral ?bad
The next spring, {H} planted another seed, and this time {he} watered it every single day.
{H} had learned that it is not enough to begin well. You have to go on.

?moral !bad
{H} learned that good things need time and care.
Now {H} knew that waiting is hard, but it is worth it to do a little every day.
"See?" said {elder}. "Great things grow slowly."

!bad
@happy
"""
