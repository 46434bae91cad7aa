"""Plots of effort: a skill learned, a rescue, the way home. See ``grammar`` for the notation."""

from __future__ import annotations

SKILL = """
@open

--
But there was one thing {H} could not do. {He} could not {skill}.
There was something {he} wanted to learn more than anything. {He} wanted to {skill}.
One {weather} day, {H} saw {F}, {a trait2} {F.boy}, {skill}. "I want to do that, too!" {he} said.
All {his} friends could {skill}, but {H} could not.

?foreshadow
"One day you will need it," said {elder}. {H} did not know what that meant.
{neighbor}, the {job}, watched from far away and smiled.

"Today I will try," {he} said, and took out {his} {thing.adj} {thing}.
For luck, {he} took along {his} {thing.adj} {thing}.
{H} put {his} {thing.adj} {thing} down where {he} could see it and got ready.
{Elder} gave {him} {a thing.adj} {thing} for luck. "Now go and try," {elder.he} said.

--
The first time, {he} {skill.fail}.
{He} tried it, but {he} {skill.fail}.
Then {H} counted to three and began. And {he} {skill.fail}.
"It can't be that hard," {he} said. But {he} {skill.fail}.

!short
The second time was not any better.
{He} tried again, and it was even worse.
{H} got up, tried again and ended up right where {he} had started.
By evening, {he} had three bruises and still could not do it.
{He} tried it ten times, and ten times it went wrong.
The next day it was just the same.

?conflict
Some bigger {folk} pointed at {him} and laughed. "You will never learn it!" they called.
"Look at that!" someone shouted. "What a silly {boy}!" {H} wanted to run away.

"I can't do it," said {H}, and threw the {thing} on the ground.
"I give up," {he} said. "I would rather go and {do}."
{H} sat down and buried {his} face in {his} {hands}.

--
Then {F} came by, {a trait2} {F.boy} with a friendly smile. "I could not do it at first, either," said {F}.
But {F} the {F.boy} picked up the {thing} and sat down next to {him}. "Shall I show you how?" {F.he} asked.
"Do you need some help?" asked {F}, {a trait2} {F.boy} who had been watching.

"{skill.tip}," said {F}.
"You have to do it like this," said {F}. "{skill.tip}."
{F} showed {him} slowly. "{skill.tip}," {F.he} said.
"Here is what my grandma told me," said {F}. "{skill.tip}."
"I will tell you the secret," {F} whispered. "{skill.tip}."

?dialogue
"Like this?" asked {H}. "Almost!" said {F}. "Once more."
"What if I fail again?" asked {H}. "Then you try again," said {F}. "That is all."
"Are you sure?" asked {H}. "I am sure," said {F}.

They practiced every day after [lunch|breakfast|supper].
{H} practiced on Monday, on Tuesday and all week long.
{H} tried again, and this time it was a little better. {He} went on and on.
{He} fell down and got up, and {he} did not stop.

!bad
And then, one {weather} morning, {H} {skill.well}!
At last came the great moment. {H} {skill.well}!
And on the very next try, it happened. {H} {skill.well}!
On the seventh day, {he} took a deep breath. {H} {skill.well}!

!bad ?twist
{F} clapped. "Now I can tell you," said {F}. "I only learned it yesterday myself!"
"Now it is your turn to teach me," said {F}. "I only knew how it works. I never dared to try!"

?bad
But then {he} hurt {his} foot and had to stay at home. When {he} was well again, {he} was too scared to try.
But {he} never took the time to do it right, and in the end {he} gave up.

!bad !short
"I did it! I did it!" {he} shouted.
{Elder} saw it and clapped until {elder.his} {hands} were red.
"Hooray!" cried {F}, and threw the {thing} into the air.

?bad
{F} stopped coming, and the {thing} lay in a dark corner.
"It is a pity," said {F}. "You were so close."

?bad
@sad

?moral
{H} learned that nobody can do everything at once. You have to practice.
Falling down is not bad, as long as you get up again.
Whoever never gives up will get there in the end.

!bad
@happy
"""

STUCK = """
@open

--
One {weather} [morning|afternoon|day], {H} heard a strange sound {place.at}.
One {weather} day, {H} was on {his} way to {do}. Then {he} heard somebody crying {place.at}.
One {weather} day, {H} was {place.at} to look at the {place.seen}. Suddenly, something {ward.sound} very sadly.

It was a little {ward}. It was stuck {stuck}!
{He} followed the sound and found {a ward} {stuck}.
Behind some leaves, {he} saw two sad eyes. A little {ward} sat {stuck} and could not get out.
There, {stuck}, was a tiny {ward}. It {ward.sound}, and its {ward.part} was hurt.

!short
"Don't be afraid," said {H} softly. "I will help you."
The {ward} looked at {him} with round, frightened eyes.
"You poor thing!" said {H}. "How did you get there?"
The {ward} trembled from head to foot.
"Shh," said {H}. "I am a friend."

--
!short
Right away, {H} pulled as hard as {he} could, but it did not work.
At once, {H} reached out {his} {hand}, but {he} was too small.
First, {he} tried to do it alone. {He} pushed and pulled, but nothing moved.

?foreshadow
Far away, thunder rumbled. There was not much time.
A little fog was rising. "In the fog, you can lose your way," {elder} always said. But {H} did not think of that now.

So {he} ran to get {his} friend {F}, {a trait2} {F.boy}.
Then {F}, the {F.boy} next door, came along. "What are you doing?" asked {F}.
"I need help!" {he} called. {F}, {a trait2} {F.boy}, came running.

?conflict
"Leave it alone," said {F}. "It might bite you." "I can't leave it," said {H}. "It is so scared!" {F} thought about it and nodded.
"We must pull!" said {F}. "No, we must push!" said {H}. While they argued, the {ward} got more and more afraid.

?dialogue
"What can we use?" asked {F}. {H} looked around. "We need {stuck.tool}!" {he} said.
"I have an idea," said {H}. "Do you know where there is {stuck.tool}?" "Yes!" said {F}.
"Hold on, little one!" said {F}. "We will be right back."

{F} took {a thing.adj} {thing} out of {F.his} bag to keep the {ward} calm.
{H} put down {his} {thing.adj} {thing} to have both {hands} free.
{H} gave the {ward} {his} {thing.adj} {thing} to hold on to.

They fetched {stuck.tool}. Very slowly and very gently, {H} {stuck.free}.
{neighbor}, the {job}, lent them {stuck.tool}. Then {H} {stuck.free}.
{F} brought {stuck.tool}. While {F} kept watch, {H} {stuck.free}.

--
!bad
And then the {ward} was free! It shook itself and {ward.sound} with joy.
"It worked!" cried {F}. The {ward} {ward.went} around them, three times.
There was a little plop, and the {ward} was free. It {ward.sound} so loudly that they both had to laugh.
Out came the {ward}! It was dirty and tired, but it was safe.

?bad
The {ward} was free. But its {ward.part} was so badly hurt that it could not go home.
But it was too late in the day, and the little {ward} was very weak. It closed its eyes.

!bad !short
They gave it {ward.food}, and it ate every bit.
{H} cleaned its {ward.part} and wrapped a bit of cloth around it.
They carried it back to {ward.home}, where its mother was waiting.

!bad ?twist
A few days later, {H} lost {his} way in the fog. Then something {ward.sound}. It was the {ward}! It {ward.went} ahead of {him}, all the way home.
They had forgotten the {thing} there. But the next morning, it was lying in front of the door, and beside it were small tracks. The {ward} had brought it back to say thank you.
But the {ward} did not want to leave. It {ward.went} after {H} all the way home, and it stayed with {him} forever.

?bad
They took it to the doctor, but the doctor could not help.
{H} made a soft bed for it. In the morning, the bed was empty, and nobody ever knew where the {ward} had gone.

!bad
"You saved it," said {F}. "We saved it," said {H}.
{Elder} was very proud of both of them.
"Good work," said {elder}. "You have a big heart."

?bad
@sad

?moral
{H} learned that even small {hands} can be a great help.
It is good to help those who are smaller than you.
If you can't do it alone, go and get a friend.

!bad
@happy
"""

JOURNEY = """
@open

--
One {weather} day, {H} and {F}, {a trait2} {F.boy}, were on their way to {do}.
One {weather} morning, {elder} sent {H} to bring {a food.adj} {food} to {neighbor}, the {job}. {F}, {a trait2} {F.boy}, went along.
One {weather} afternoon, {H} was {place.at} with {F}, {a trait2} {F.boy}.

?foreshadow
"Stay on the path," said {elder}, "and look at the signs along the way."
{H} tied a piece of yarn to {a tree} just for fun.
"If you ever get lost, look for the {tree} with the broken top," {elder} had told them.

They saw {a color} butterfly and followed it, farther and farther.
A little {beast} {beast.went} across the path, and they ran after it.
They heard music far away and wanted to know where it came from.
They played hide and seek, and they ran deeper and deeper into the trees.
They picked one {flower} and then another, and they did not look where they went.

When they stopped, nothing looked the same. They were lost!
"Where are we?" asked {F}. {H} turned around and around. {He} did not know.
Suddenly, the path was gone. There were only trees and more trees.

--
?conflict
"It is all your fault!" said {F}. "You wanted to come!" said {H}. They stood there and sulked.
"We must go left," said {H}. "No, right!" said {F}. Neither of them wanted to give in.

!short
It was getting dark, and a cold wind began to blow.
The sun went down, and the shadows grew long.
An owl hooted. {F} took {H}'s {hand} and held it tight.

?dialogue
"I want to go home," said {F} with a shaky voice. "Me, too," said {H}. "But we will be all right if we stay together."
"Are you afraid?" asked {F}. "A little," said {H}. "Are you?" "A lot," said {F}.
"What would {elder.call} do?" {H} thought out loud. "I think we must stay calm."

All that {H} had was {his} {thing.adj} {thing}. {He} held it close, and that made {him} feel a little better.
Then {H} gave {F} {his} {thing.adj} {thing} to hold. "It always makes me feel better," {he} said.
Then {F} took {a thing.adj} {thing} out of {F.his} bag. "This will bring us luck," said {F}.

!short
First they crossed a [stream|ditch|muddy field]. Then they climbed a [hill|wall|fence].
They walked past {a tree} and then past a big gray rock.
They went down a slope and over a little bridge.

!bad !twist
At last, they saw a light. "That is {town}!" cried {H}. They ran as fast as they could.
Then {H} heard a bell. "That is the bell of {town}!" {he} cried. "We have to follow the sound."
{H} looked up and saw a bright star over the hill. "It always shines above our {home}," {he} said. "That is the way!"

!bad ?twist
Then they saw a house with a light in the window. They knocked, and {neighbor} opened the door. They were almost at home! They had walked in a circle all the time.
A pair of eyes came nearer and nearer. They were so scared! But it was only the {pet}, which had come to look for them. It {pet.went} ahead and showed them the way.

?bad
They walked all night. {H} lost the {thing} in the dark, and it began to rain.
They had to sleep under {a tree}, and they were cold and hungry. In the dark, the {thing} got lost.

--
!bad
{Elder} was standing at the door with a lamp. "There you are!" {elder.he} cried.
{Elder} came running down the path and hugged them so hard that they could not breathe.
"Where have you been?" asked {elder}, and put {elder.his} arms around both of them.
At home, {elder} gave them warm soup and wrapped them in a blanket.

?bad
In the morning, {neighbor}, the {job}, found them. Both of them were ill for a long time.
When they came home the next day, {elder} was ill with worry.

!bad !short
"Next time, we will stay on the path," said {H}. "And we will not run after everything," said {F}.
{F} yawned. "I was not afraid," said {F}. "Me neither," said {H}. And then they both laughed.
"You were very brave," {F} told {H}. "So were you," said {H}.

?bad
@sad

?moral
{H} learned to look where {he} was going.
When you are lost, stay calm, stay together, and think.
Home is never so sweet as when you have been lost.

!bad
@happy
"""
