"""Plots of many together: building, a race, a surprise party. See ``grammar`` for the notation."""

from __future__ import annotations

BUILD = """
@open

@friend

--
One {weather} day, the two friends had a big idea. "Let's build {a build.adj} {build}!" said {F}.
"I wish we had {a build.adj} {build}," said {H} one {weather} day. "Then let's make one!" said {F}.
One {weather} morning, {H} drew a picture of {a build.adj} {build}. "We can build it," {he} told {F}.

!short
They wanted to {build.use}.
"Then we can {build.use}," {he} said.
Both of them wanted to {build.use} as soon as it was done.

They looked for {build.from} and carried everything to a good spot {build.spot}.
They needed {build.from}. It took them all morning to find everything.
{Elder} gave them {build.from}, and they got to work {build.spot}.

--
?conflict
But {H} wanted it to be big, and {F} wanted it to be small. "My way!" said {H}. "No, my way!" said {F}.
"You are doing it wrong," said {H}. "Then do it alone," said {F}, and sat down with {F.his} arms crossed.

?foreshadow
"You should make the bottom strong first," said {elder}. But they were in a hurry.
One corner was a little loose. "It will hold," said {H}.

!short
They worked and worked. {H} held things, and {F} put them together.
They pushed and pulled and pounded until they were covered in dirt.
{H} measured, {F} held on, and then they changed places.
"Hold this!" said {H}. "Pull here!" said {F}. It was hard work.
{F} did the low parts, and {H} did the high parts.

!short
By noon, the {build} was almost done.
"Just one more piece!" said {H}.
It was getting taller and taller, and they were very proud.

Then a strong wind came, and with a crash the {build} fell down.
Then there was a creak and a crack. The whole {build} came down!
Then {a beast} {beast.went} by and bumped into it. The {build} fell over with a bang!
But when {F} leaned on it, everything fell apart.
But {H} was in such a hurry that {he} tripped, and the {build} broke into pieces.

?dialogue
"It is your fault!" cried {F}. "No, it is yours!" cried {H}. Then they looked at each other and stopped. "It is nobody's fault," said {H}.
"Now what?" asked {F} in a small voice. "Now we know how not to do it," said {H}.
"I want to go home," said {F}. "Please stay," said {H}. "I can't do it without you."

--
!bad
So they started again. This time, they went slowly and helped each other.
Then {H} took a deep breath. "Let's try again," {he} said. And this time, they made every part strong.
"One piece at a time," said {H}. They began again, and now nobody was in a hurry.
They asked {neighbor}, the {job}, how to do it. {Neighbor} showed them, and they began once more.

?bad
They tried once more, but they were tired and cross, and it fell down again.
But {F} had already gone home, and {H} could not do it alone.

!bad
When evening came, there it stood, {a build.adj} {build}!
At last it was finished. It was {a build.adj} {build}, and it did not even wobble.
They put on the last piece, stepped back and held their breath. This time, nothing fell down. It was {a build.adj} {build}!

!bad ?twist
But when they came back the next day, someone was already there. A little {beast} had moved in! "Then it is for three," said {H}, and they all fit.
That night there was a storm. In the morning, everything around was blown away, but the {build} still stood. Half of the animals nearby had hidden behind it and were safe!

?bad
The pieces lay there all winter, and nobody ever built the {build}.
"We will do it another day," they said. But they never did.

!bad !short
Now they could {build.use} every day.
"It is ours," said {F}. "We made it together," said {H}.
{Elder} came to look and clapped {elder.his} {hands}. "I have never seen such a fine {build}!" {elder.he} said.

?bad
@sad

?moral ?bad
They learned that it is better to finish one thing than to begin ten.
If only they had been patient with each other, it would have worked.

?moral !bad
They learned that two can do what one can not.
If it falls down, build it up again, and build it better.
Good work takes time, and it is easier with a friend.

!bad
@play
"""

RACE = """
@open

--
Once a year, there was a big race in {town}, and the winner got {a prize.adj} {prize}.
One {weather} day, {neighbor}, the {job}, held a race for all the {folk}. The prize was {a prize.adj} {prize}.
One {weather} morning, all the {folk} met {place.at} for a race. Whoever came first would win {a prize.adj} {prize}.

!short
{H} wanted it so much. {He} wanted to {prize.use}.
"I have to win that {prize}!" thought {H}.
{H} could already see {himself} with the {prize} in {his} {hand}.

!short
Every day {he} practiced, and {he} even stopped going off to {do}.
{He} got up early every day to practice.
{He} ran up the hill and down the hill until {his} legs hurt.

?conflict
"You will never win," said {a F.boy} named {F}. "I am much faster than you." That made {H} furious.
{F}, the fastest {F.boy}, laughed at {him}. "Your legs are too short!" said {F}.

?foreshadow
"Watch out for the bend by the {tree}," said {elder}. "There are roots on the ground."
One of the others had not slept well and looked tired, but nobody saw it.
"It rained last night," said {neighbor}. "The ground is slippery."

--
"Ready, set, go!" called {neighbor}, and off they went.
A bell rang, and everybody started to run.
All the {folk} stood in a row. "Go!" shouted {neighbor}.
{neighbor} waved a flag, and the race began.

{H} ran as fast as {he} could. Only {F}, {a trait2} {F.boy}, was still ahead of {him}.
Soon there were just two in front, {H} and {a F.boy} named {F}.
One after the other fell behind. At the last bend, {H} ran side by side with {F}, {a trait2} {F.boy}.

Then {F} tripped over a root and fell hard. "Ow! My knee!" cried {F}.
Suddenly, {F} stumbled and rolled into a ditch. {F.He} could not get up.
But at the {tree}, {F} slipped on the wet leaves and hurt {F.his} foot.

?dialogue
"Run!" called the crowd. "You can win!" "Help," said {F} in a small voice.
"Go on," said {F}. "You will win now." {H} looked at the finish line, and then {he} looked at {F}.

--
!bad
Then {H} stopped. {He} turned around and held out {his} {hand} to {F}. "Lean on me," {he} said.
The finish line was so near! But {H} ran back and helped {F} up.
First {H} thought of the {prize}. Then {he} thought of {F}. {He} went back and put an arm around {F}.

?bad
But {H} did not stop. {He} ran past {F} and over the line, and {he} won.
But {H} jumped over {F} and ran on. {He} was the first one over the line.

!bad
Together they hopped over the line. They were the very last, but everybody cheered.
Step by step, they went on together. Everybody had finished long ago, but nobody had gone home. They were all clapping for the two of them.
The others ran past them. {H} and {F} came in last, {hand} in {hand}.
They finished long after all the others. But the clapping was louder for them than for anyone else.

!bad !twist
"That was the best thing I saw all day," said {neighbor}, and gave {H} a [cookie|flower|warm smile].
{F} looked at {him}. "You could have won," said {F}. "I won a friend," said {H}.
"Thank you," said {F}. "Nobody has ever done that for me."

!bad ?twist
Then {neighbor} held up {neighbor.his} {hand}. "The {prize.adj} {prize} is not for the fastest," {neighbor.he} said. "It is for the kindest. It is yours, {H}!"
The winner came over to them. "I don't even need {a prize}," said the winner, and put the {prize.adj} {prize} into {H}'s {hands}. "You should have it."

?bad
{Neighbor} gave {him} the {prize}, but nobody clapped. They were all helping {F}.
Now the {prize.adj} {prize} was {his}. But {F} would not look at {him}, and the prize felt as cold as a stone.

?bad
@sad

?moral ?bad
{H} learned that being kind is better than being first.
You can win a race and lose a friend, and that is a bad trade.
What good is {a prize} when there is nobody to be happy with you?

?moral !bad
{H} learned that being kind is better than being first.
Winning is nice, but helping is nicer.
A prize gets dusty one day, but a good deed stays bright.

!bad
@play
"""

PARTY = """
@open

--
When {H} woke up, {he} smiled. Today was {his} birthday!
One {weather} morning, {H} jumped out of bed. "Today is my birthday!" {he} sang.
At last the great day came. It was {H}'s birthday.

{He} hoped for {a treat.adj} {treat} and {a prize.adj} {prize}.
For weeks, {he} had wished for {a prize.adj} {prize} and {a treat.adj} {treat}.
{He} dreamed of {a prize.adj} {prize} with a bow on it. And of course there had to be {a treat.adj} {treat}.

But at breakfast, {elder} just said, "Good morning." There was no cake and no song.
But {elder} was busy and only said, "Please eat your breakfast, {H}."
But {elder} only yawned and looked out of the window.
But the table was empty, and {elder} was sweeping the floor. "Hello, {H}," {elder.he} said, and that was all.
But nobody said anything about it. {Elder} did not even look up.

?foreshadow
There was a bit of red ribbon on the floor, but {H} did not wonder about it.
Something smelled like sugar, but the kitchen was empty.
Someone giggled behind the door. When {H} looked, nobody was there.

--
So {H} went out to find {F}, {a trait2} {F.boy}. "Do you know what day it is?" {he} asked.
Then {H} ran to {F}, the {F.boy} next door. "Guess what today is!" {he} said.
{He} went to see {his} friend {F}, {a trait2} {F.boy}. {F.He} would surely remember.

"It is {weekday}," said {F}, and hurried away.
"I have no time today," said {F}, and shut the door.
"It is a day like any other," said {F}, and looked the other way.
{F} hid something behind {F.his} back. "I have to go!" {F.he} said, and ran off.

?conflict
"You are a bad friend!" {H} shouted after {F}. {F} stopped for a moment, but then {F.he} went on.
"Then I won't play with you tomorrow!" {H} called. {F} only waved.

{H} met {neighbor}, the {job}. But {neighbor} did not say happy birthday, either.
Even {neighbor}, the {job}, just walked by with a big bag.
{H} asked {neighbor}, the {job}, to come and {do}. "Not now," said {neighbor}.

!short
{H} sat down all alone {place.at}. "Everybody forgot me," {he} said, and a tear ran down {his} cheek.
{He} went to {do} all by {himself}, but even that was no fun.
All day long, {he} sat {place.at} and felt sorry for {himself}.

?dialogue
"Why are you so sad?" asked a little voice. It was {a beast}. "Because nobody likes me," said {H}. The {beast} {beast.sound} and sat down next to {him}.
"Maybe I am too small to have a birthday," {H} told {a beast} that was sitting there.

--
When it got dark, {he} went home. The {home} was dark, too. {H} opened the door.
At sunset, {he} heard {elder} calling. {H} walked home slowly and pushed the door open.
In the evening, {he} dragged {his} feet back home. No light was on. {He} stepped inside.

?bad
It was quiet. There was only a note: "Had to help a sick friend. We will have your party another day."
{Elder} was asleep in a chair. {Elder.he} had worked all day, and {elder.he} had really forgotten.

!bad
"Surprise!" shouted everybody. The lights went on, and there were {elder}, {F}, {neighbor} and all {his} friends!
"Surprise! Happy birthday, {H}!" they all called. There were balloons and lanterns everywhere.
All at once it was bright. "Happy birthday!" sang {elder} and {F} and {neighbor}. Everyone was there!

!bad
On the table stood {a treat.adj} {treat} with candles on it, and next to it lay {a prize.adj} {prize}.
{F} gave {him} {a prize.adj} {prize} tied with a ribbon, and {elder} brought in {a treat.adj} {treat}.
There was {a treat.adj} {treat} for everyone, and {F} handed {him} a box. In it was {a prize.adj} {prize}!

!bad !short
"We did not forget you," said {F}. "We were getting ready all day."
"So that is why you ran away!" said {H}, and laughed.
{H} laughed and cried at the same time. "I thought nobody liked me!" {he} said. "Silly," said {F}. "Everybody likes you."
"It was so hard to keep the secret!" said {F}.

!bad ?twist
But then {H} got another surprise. {F} had the very same birthday and had never told anybody! So they blew out the candles together.
Then there was a knock at the door. It was {his} favorite cousin, who had come all the way from the sea to dance with {him}!

?bad
In the morning, {F} came with {a prize.adj} {prize} and {a treat.adj} {treat}. But a birthday is only once a year.
The next day they gave {him} {a prize.adj} {prize} and {a treat.adj} {treat}. It was not the same.

?bad
@sad

?moral ?bad
After that, {H} never forgot the birthday of anybody, not even of the {pet}.
Now {H} knew how it feels to be forgotten, and {he} was always kind to those who were alone.

?moral !bad
{H} learned not to think badly of friends too soon.
Sometimes the ones who love you most are busy making you happy.
You are never forgotten by those who love you.

!bad
@happy
"""
