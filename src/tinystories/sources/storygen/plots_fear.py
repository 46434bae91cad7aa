"""Plots of fear: a rule broken, a stranger, a noise at night. See ``grammar`` for the notation."""

from __future__ import annotations

FORBIDDEN = """
@open

@friend

--
There was {a rule.adj} {rule} {rule.where}. "You must never {rule.rule}," {elder} told {H}.
"Whatever you do, do not {rule.rule}," {elder} always said. The {rule.adj} {rule} was not a toy.
There was one thing that {H} was not allowed to do. "Never {rule.rule}," said {elder}. But the {rule.adj} {rule} {rule.where} looked so interesting!
One {weather} day, {elder} had to go out. "Be good," {elder.he} said, "and do not {rule.rule}." {H} looked at the {rule.adj} {rule}.

!short
"Why not?" asked {H}. "Because it is dangerous," said {elder}.
"I won't," said {H}. But {he} could not stop thinking about it.
"Yes, yes," said {H}, but {he} was not really listening.
"I promise," said {H}, and at that moment {he} really meant it.

?foreshadow
"Rules are there for a reason," {elder} added.
Once, somebody had been hurt that way. But that was long ago, and {H} did not believe it.
{F} the {F.boy} had tried it once, and ever since then {F.he} walked the other way.

--
One {weather} afternoon, nobody was watching. {H} looked to the left and to the right.
But one day, {H} was bored. {He} did not even want to {do}.
Then {he} was alone. "Just this once," {he} whispered.
{Elder} was asleep in a chair. {H} tiptoed past.
It was so quiet that {H} could hear {his} own heart. {He} came nearer and nearer.
The next day, {H} was on the way to {do} with {F}. And there it was, the {rule.adj} {rule}.

?dialogue
"Don't do it," said {F}. "We are not allowed to." "Nobody will know," said {H}.
"Come here, {F}!" called {H}. "Do you dare?" "No," said {F}, "and you should not, either."
"It is only {a rule}," {H} said to {himself}. "What could go wrong?"

?conflict
"You are a scaredy-cat!" said {H}. "And you are a fool!" said {F}.
{F} tried to hold {him} by the arm, but {H} pulled free.

So {he} {rule.deed}.
Then, with a fast beating heart, {he} {rule.deed}.
{H} held {his} breath. {He} {rule.deed}.
And before anyone could stop {him}, {he} {rule.deed}.

At first it was fun. But then it happened. {rule.harm}!
For a moment, nothing happened. Then there was a sound. {rule.harm}!
{rule.harm}! {H} went pale.
And then everything went wrong. {rule.harm}!

!short
"Help!" cried {H}. "Somebody help!"
{H} wanted to undo it, but it was too late. {He} began to cry.
{His} knees shook. "What have I done?" {he} thought.
"I did not want this!" {H} cried. "{F}, help me!"

--
!bad
At once, {F} ran as fast as {F.he} could to get {neighbor}, the {job}, who {rule.fix}.
Luckily, {F} heard the noise and called {neighbor}, the {job}. {Neighbor} came in a hurry and {rule.fix}.
But {F} did not wait. {F.He} fetched {neighbor}, the {job}, who {rule.fix}.

!bad ?twist
Then {neighbor} winked. "When I was little, I did the very same thing," {neighbor.he} said. "Look, I still have the scar."
And who was standing behind {neighbor}? It was {elder}, who had come home early and had seen it all.

?bad
At once, {F} called for help, but it took a long time for {neighbor}, the {job}, to come. {H} was hurt and had to stay in bed for weeks.
Then {F} went to get {neighbor}, the {job}, who {rule.fix}. But it was too late to make it good again. {Elder} was so sad that {elder.he} did not say a word.

!bad
{H} told {elder} everything. "I am sorry," {he} said. "I did not listen."
"I broke the rule," {H} said when {elder} came home. "I will not do it again."
When {elder} heard about it, {H} hung {his} head. "I should have listened to you," {he} said.

!bad
"I am angry," said {elder}, "but I am glad that you told me the truth."
{Elder} hugged {him} tightly. "I am just happy that you are safe," {elder.he} said.
"Now you know why," said {elder}, and kissed {him} on the forehead.

?bad
@sad

?moral
{H} learned that rules are there to keep us safe.
After that, when somebody told {him} not to do something, {H} asked why, and then {he} listened.
It is better to listen first than to be sorry later.

!bad
@calm
"""

VISITOR = """
@open

--
At the edge of {town} lived {a stranger.adj} {stranger}. Everybody was afraid of it.
One {weather} day, people said that {a stranger.adj} {stranger} had come to {town}.
There was an old story in {town}. It was about {a stranger.adj} {stranger} that lived nearby.

"They say that it once {stranger.rumor}!" whispered {F}, {a trait2} {F.boy}.
{F}, {a trait2} {F.boy}, knew all about it. "Once, the {stranger} {stranger.rumor}," said {F}.
"My cousin says that it once {stranger.rumor}," said {F} the {F.boy} with big eyes.

?foreshadow
"Has anyone ever talked to it?" asked {elder}. Nobody had.
Sometimes, at night, you could hear soft, sad music from far away.

--
One {weather} day, {H} was on {his} way to {do} and lost {his} {thing.adj} {thing} {place.at}.
Then one day, {H} left {his} {thing.adj} {thing} {place.at}. When {he} noticed it, it was almost night.
One evening, {H} was looking for {his} {thing.adj} {thing} {place.at}. It was getting dark.

Suddenly, {he} saw {stranger.seen}.
And then {H} saw {stranger.seen}!
What was that? {He} saw {stranger.seen}.

!short
{H} wanted to run, but {his} legs felt like jelly.
{H} stood as still as a tree and did not dare to breathe.
"Oh no," whispered {H}, "it is true!"
{His} heart went boom, boom, boom.
"Please don't hurt me!" cried {H}.

?conflict
"Go away!" shouted {H}, and threw a pebble. The {stranger} only said, "Ouch."
{F} came with a stick. "Leave my friend alone!" {F.he} yelled. The {stranger} took a step back and looked very sad.

--
"Hello," said the {stranger} in a soft voice. "Is this your {thing}?"
But the {stranger} just held out the {thing}. "I think you lost this," it said.
"You dropped something," said a deep but gentle voice. It was the {stranger}, and it was holding the {thing}.
The {stranger} came closer, bent down and put the {thing} into {H}'s {hands}. "There you are," it said.
"Don't be afraid," the {stranger} said. "I only want to give you back your {thing}."

?dialogue
"Don't you want to eat me?" asked {H}. "Eat you?" said the {stranger}. "No! I would rather have some tea."
"Is it true that you are bad?" asked {H}. "Who says that?" asked the {stranger}. "Everybody," said {H}. The {stranger} sighed.
"Why do you live all alone?" asked {H}. "Because everyone runs away from me," said the {stranger}.

!bad
And then {H} found out that, in truth, the {stranger} {stranger.truth}.
It was not bad at all. In truth, the {stranger} {stranger.truth}.
They talked for a while, and {H} learned the truth about all those stories. The {stranger} {stranger.truth}.

?bad
But {H} did not wait. {He} snatched the {thing} and ran away as fast as {he} could.
But just then the people came with sticks and lamps and chased the {stranger} away.

!bad
The next day, {he} came back with {F}. {F} hid behind {him} at first, but soon they were all laughing.
{H} called {F}. "Come here! It is nice!" {he} said. {F} came out from behind {a tree}, one step at a time.
{H} told everyone about it. At first nobody believed {him}, but {F} did, and they went there together.

!bad ?twist
Then the {stranger} laughed and showed them a picture on the wall. On it was {elder}, still very small, on the {stranger}'s lap. They were old friends!
"And now I will tell you a secret," said the {stranger}. "I was afraid of you, too!"

!bad !short
Soon all the {folk} in {town} came to visit the {stranger}.
They had a little party, and {elder} brought {a food.adj} {food} for the {stranger}.
From then on, the {stranger} was never lonely again.

?bad
When {H} came back the next day to say sorry, the {stranger} was gone. {F} said that it {stranger.truth}.
The {stranger} went far away and never came back. Later, {H} and {F} heard that it {stranger.truth}.

?bad
@sad

?moral
{H} learned that you can't know someone before you have said hello.
Not everyone who looks scary is bad.
Don't believe every story you hear. Go and see for yourself.

!bad
@happy
"""

FEAR = """
@open

@thing

--
But there was one thing {H} did not like. {He} was afraid of the dark.
By day, {H} was never scared. But at night, when the lamp went out, {he} pulled the covers over {his} head.
Only one thing was bad. When night came, {H} was afraid.

One night, {his} friend {F}, {a trait2} {F.boy}, slept over.
One stormy night, {F} the {F.boy} was staying with {him}.
One dark night, {F}, {a trait2} {F.boy}, was allowed to sleep at {H}'s {home}.

?foreshadow
"Things look bigger in the dark than they are," {elder} said, and kissed them good night.
Before they went to bed, the wind had begun to blow.
The {pet} had not come home that evening.

--
They were almost asleep when there was {a noise.adj} {noise}.
Then they heard it, {a noise.adj} {noise}!
In the middle of the night, {H} woke up. There was {a noise.adj} {noise}.

{H} held on to {his} {thing}. "What was that?" {he} whispered.
"Did you hear that?" asked {F}. {H} nodded and hugged {his} {thing}.
"W-what is it?" whispered {F}. {H} put {a hand} over {his} mouth and held the {thing} like a shield.
{H} sat up. {His} mouth was dry. The {thing} fell on the floor.

?dialogue
"Maybe it is a monster," said {F}. "Monsters are not real," said {H}. But {he} was not so sure.
"Go and look," said {F}. "You go and look," said {H}. "We will go together," they both said.
"I wish {elder.call} were here," said {H}. "Everybody is asleep," said {F}. "We have to do it."

?conflict
"You are a baby," said {F}. "I am not!" said {H}. "You are under the blanket, too!"
"This is all because you told that scary story!" said {H}. "You wanted to hear it!" said {F}.

!short
There it was again, {a noise.adj} {noise}, and this time it was nearer.
It came again, a little louder.
The {noise} came from the other side of the door.

{H} took a deep breath. {He} lit a small lamp and took {F}'s {hand}.
"I want to know what it is," said {H} at last, and {he} put one foot out of bed.
{H} was shaking, but {he} picked up the lamp. Step by step, they went to the door.

--
!bad !twist
Then {H} pulled the door open. And what was it? It was only {noise.cause}!
They looked around the corner, and there it was. It was nothing but {noise.cause}!
"One, two, three!" said {H}, and they looked. There was no monster. There was only {noise.cause}!
Slowly, {H} held up the lamp. Then {he} began to giggle. It was only {noise.cause}!

!bad ?twist
Then {H} pulled the door open. There sat the {pet}, all wet! It {pet.sound} and {pet.went} in. It had only wanted to come home.
They opened the door. There stood {elder} with {a food.adj} {food}. "I could not sleep, either," {elder.he} said. "I was afraid of the noise, too!"

?bad
But then the lamp went out. They ran back to bed and did not sleep all night. They never found out that it was only {noise.cause}.
They ran so fast that {F} fell down the stairs and hurt {F.his} arm. And it had only been {noise.cause}.

!bad !short
They laughed so hard that they had to sit down.
"We were afraid of that?" said {F}, and they both laughed.
"Hello, monster," said {H}, and now {his} voice was not shaking anymore.
{F} giggled, {H} giggled, and in the end they were rolling on the floor.

!bad
After that, the dark was just the dark. They went back to bed and slept until morning.
The next day, they told {elder} all about it and then went off to {do}.
"You are very brave," said {F}. "I was scared," said {H}. "But I went anyway."

?bad
@sad

?moral ?bad
If they had looked one moment longer, they would have known that there was nothing to fear.
Running away makes small things big.

?moral !bad
{H} learned that being brave means being afraid and going on anyway.
Most scary things are small when you put a light on them.
What you know can't scare you so much.

!bad
In the morning, {H} woke up {feeling}.
From then on, {H} was not afraid when the lamp went out.
After that, {H} even liked the night a little.
{Elder} heard them giggle and smiled.
And if you hear {a noise} at night, think of {H}.
The moon shone through the window, and everything was quiet in {town}.

"""
