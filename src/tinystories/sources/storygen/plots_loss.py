"""Plots about things lost and kept. See ``grammar`` for the notation."""

from __future__ import annotations

LOST = """
@open

@thing

--
One {weather} [morning|afternoon|day], {H} reached for {his} {thing}, but it was not there.
One day, {H} came home from the {place} and saw that {his} {thing} was gone.
But one [morning|evening], {H} put {his} {hand} where the {thing} always was, and there was only [air|dust].
One {weather} day, {H} wanted to show {his} {thing} to {elder}. But where was it?
One {weather} day, after playing {place.at}, {H} could not find {his} {thing} anywhere.
But one {weather} morning, something was wrong. The {thing} was missing!
Then, one {weather} day, the {thing.adj} {thing} [disappeared|was suddenly gone].

?foreshadow
"You should take better care of your {thing}," {elder} had [said|warned] only the day before.
{H} remembered that {he} had felt something slip away on the path {place.at}, but {he} had not stopped to look.
The day before, there had been a small hole in {his} bag. {H} had not mended it.

!short
{He} looked under {his} bed, [behind the door|in every drawer|inside all the shoes] and on the shelf. There was no {thing}.
{He} turned everything upside down, but {he} only found [dust|crumbs|an old sock|a cold potato].
{He} looked high and low, and {his} eyes filled with tears.
{He} looked in the kitchen and under the rug, and {he} looked twice in every corner.
"It was here yesterday!" {H} said, and {his} voice shook.
"Oh no! Where is my {thing}?" cried {H}.
{His} lip began to shake. "My {thing} is lost," {he} whispered.

?dialogue
"When did you last have it?" asked {elder}. "I had it {place.at}," said {H}.
"Do not cry," said {elder}. "Think. Where did you play with it last?" {H} thought hard. "I was {place.at}!" {he} said.
"Did you take it with you when you went to {do}?" asked {elder}. {H} shook {his} head. "No, but I had it {place.at}."

--
Right away, {H} asked {F}, {a trait2} {F.boy}, to help {him} look.
{His} friend {F} heard {him} crying and came [running|over at once]. "I will help you look," said {F}.
On the path, {H} met {F}, {a trait2} {F.boy}. "I lost my {thing}," said {H}. "Then we will look for it together," said {F}.
Next door lived {F}, {a trait2} {F.boy} who saw how sad {H} was. "Two can look better than one," said {F}.

?conflict
"Did you take it?" {H} asked {F} all of a sudden. {F} was hurt. "I would never do that," said {F}. {H} said sorry at once.
"Maybe somebody stole it!" said {H} angrily. "Don't be mad," said {F}. "Let's look first."
{H} stamped {his} foot. "We will never find it!" {he} shouted. {F} waited until {he} was calm again.

!short
They walked back to where {H} had been and looked at every [step|corner|stone] {place.at}.
They searched {place.at}, where there were {place.seen}.
"Let's go back to the {place}," said {F}. They crawled over {place.ground} on their {hands} and knees.
They split up. {F} looked on the left, and {H} looked on the right.
Step by step, they went back the way {H} had come, until they were {place.at}.
They asked everyone they met {place.at}, but nobody had seen {a thing.adj} {thing}.

!bad !twist
Then {F} saw something {place.hide}. It was the {thing}!
At last, {H} looked {place.hide}. There lay the {thing.adj} {thing}, [a bit dirty but not broken|safe and sound]!
{F} bent down and pulled something out of {place.ground}. It was the {thing}! It must have fallen down while {H} was playing.
When they were just about to give up, the sun came out and something glinted. The {thing.adj} {thing} was {place.hide}!
"Look!" cried {F}. Something was lying {place.hide}. {H} pulled it out. It was {his} own {thing}!
All at once, {H} stopped. [Half hidden|Waiting quietly] {place.hide} was the {thing.adj} {thing}.

!bad ?twist
Then they heard a sound. {Place.hide}, a little {beast} was sleeping next to the {thing}! It had been lonely and wanted something to keep it company.
But it was not there. When they came home, the {pet} was sitting on something. It was the {thing}! The {pet} had been keeping it warm all day long.
Then {F} began to laugh. "Look behind you!" said {F}. The {thing} had been hanging from {H}'s back all day long!
Then {elder} came [running|hurrying] after them with the {thing}. "I only took it to clean it for you!" {elder} said. All that time, it had never been lost.

?bad
They looked until the sun went down. But the {thing} was gone for good.
Then they saw it. The {thing} was floating away in the river, too far out to reach.
At last they found it, but a cart had rolled over it, and the {thing} was broken to bits.
It began to rain, and they had to go home. They never saw the {thing} again.

--
!bad
"Thank you, {F}!" said {H}, and held the {thing} tight.
With the {thing} in {his} {hand}, {H} danced in a circle. "We found it! We found it!" {he} sang.
"How can I thank you?" asked {H}. "Just be my friend," said {F}.
First {H} hugged the {thing}, and then {he} hugged {F}.
Now {H} jumped for joy. "You are the best friend ever, {F}!" {he} said.
That day, {H} was so {feeling} that {he} let {F} play with the {thing} all afternoon.

?bad
@sad

?bad
"I should have taken better care of it," {H} said.
{F} gave {him} a hug, but {he} missed {his} {thing} very much.
~

?moral
From then on, {H} always put {his} things back where they belonged.
{H} learned to take good care of the things {he} loved.
And {H} knew now that a good friend is worth more than any {thing}.
So remember: when something goes wrong, stop and think, and ask for help.

!bad
@play
"""

PROMISE = """
@open

--
One day, {F} the {F.boy} had to go away for [a week|three days|a few days]. "Will you look after my {ward}?" asked {F}.
One {weather} morning, {F}, {a trait2} {F.boy}, came to the door with a little {ward}. "I must visit my aunt," said {F}. "Will you take care of it for me?"
A good friend named {F}, who was {a F.boy}, had a little {ward}. "I have to help my uncle today," {F} told {H}. "Please feed my {ward} until I am back."

"I promise," said {H}. "I will feed it and I will not leave it alone."
"You can count on me," said {H}. "I promise!"
"It will be safe with me," {H} promised.
{H} nodded so hard that {his} hat fell off. "I promise!" {he} said.
{H} put {his} {hand} on {his} heart. "I promise," {he} said.
"Yes! I promise I will watch it every minute," said {H} proudly.

{F} gave {him} {a thing.adj} {thing} to say thank you, and some {ward.food} for the {ward}.
As a thank-you, {F} lent {H} {a thing.adj} {thing}.
"And you may keep my {thing.adj} {thing} while I am gone," said {F}.

?foreshadow
"Close the gate well," {F} called over {F.his} shoulder. "It likes to run away!"
The gate made a little click behind {F}, but it did not quite shut.
"A promise is a promise," said {elder}, and looked at {H} for a long time.

--
!short
At first all went well. The {ward} ate its food and {ward.sound} happily.
In the morning, {H} fed the {ward}. It {ward.sound} and {ward.went} around {him}.
Each morning, {H} gave the {ward} fresh water and stroked its back. It {ward.sound} softly.
Then {H} made a nest of soft rags, and the {ward} {ward.went} right into it.
The {ward} was small and warm. When {H} held it, it {ward.sound} in {his} ear.

Then some friends came by. "We are going to {do}!" they called. "Come with us!"
But outside, the other {folk} were having fun. They wanted {H} to come and {do}.
But soon {H} got bored. {He} wanted so much to {do}.
On the second day, {his} friends knocked on the window. "Come out and {do}!" they shouted.
Then the sun came out, and {H} thought how nice it would be to {do}.

?conflict
"I can't," said {H}. "I promised." "Don't be silly," said the others. "Nobody will know."
{H} felt pulled two ways, as if {he} were a rope. {He} wanted to go, and {he} wanted to stay.
"You are no fun at all," the others said. That made {H} angry and sad.

!bad !twist
{H} looked at the door. {He} looked at the {ward}. Then {he} shook {his} head. "Not today," {he} said. "I made a promise."
{H} thought of {F} and of {his} promise. "I will stay here," {he} said, even though it was hard.
It was hard to say no. But {H} sat down next to the {ward} and stayed.

?twist !bad
"Only for a minute," {H} thought, and {he} ran out. When {he} came back, the {ward} was gone!
{H} went out just for a little while. But when {he} came home, the gate was open and the {ward} was gone!

?bad
"It will be all right," {H} thought, and {he} went out to play. {He} forgot all about the {ward}.
{H} went with the others and stayed out until dark. The {ward} was all alone and hungry.

--
!bad !twist
In the evening, {H} saw smoke. Some hay had caught fire near the {ward}! {H} quickly carried it outside, and {elder} put the fire out. It was a good thing that {he} had stayed.
That afternoon, the {ward} got its {ward.part} caught in the fence. Because {H} was there, {he} could free it right away.
Late in the day, a big storm came. The little {ward} shook with fear, but {H} held it in {his} arms until the thunder was gone.
All day long, {H} played with the {thing} and sang to the {ward}. It fell asleep on {his} lap.

?twist !bad
For hours, {H} looked everywhere and called and called. At last {he} went to tell {F} the truth. But there, in {F}'s yard, sat the {ward}! It had missed {F} and walked all the way home.
With a heavy heart, {H} searched all night. In the morning, {he} heard a small sound. The {ward} was curled up inside {his} own bed, fast asleep!

?bad
When {H} came back, the {ward} had run away. {He} called and called, but it did not come.
When {he} came back at last, the {ward} was lying on the floor, sick and weak.

!bad !twist
When {F} came back, the {ward} was fat and {feeling}. "You kept your promise!" said {F}.
"Thank you, {H}," said {F} when {F.he} came home. "I knew I could trust you."
At last {F} came home. The {ward} {ward.went} to meet {F.him}, and {F} gave {H} a big hug.

?twist !bad
{H} told {F} everything. "I broke my promise, and I am sorry," {he} said. "Thank you for telling me," said {F}.
"I am so sorry," {H} told {F}. "I left it alone." {F} was quiet, but then {F.he} smiled. "You told the truth. That was brave."

?bad
{F} cried when {F.he} heard about it. "You promised," said {F}. {H} did not know what to say.
"I trusted you," said {F}, and took the {thing} back. {H} looked at the ground.

?bad
@sad

?moral
{H} had learned that a promise must be kept, even when it is hard.
"A promise is like an egg," said {elder}. "It is easy to break and hard to mend."
From then on, {H} never made a promise that {he} could not keep.

!bad
@happy
"""
