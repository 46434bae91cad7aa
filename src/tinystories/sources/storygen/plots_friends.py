"""Plots of friends at odds: a quarrel, a trick, something to share. See ``grammar`` for the notation."""

from __future__ import annotations

QUARREL = """
@open

@friend

--
One {weather} [morning|afternoon|day], they found {a toy.adj} {toy} {place.at}.
One {weather} day, {H} and {F} were {place.at} when they saw something on the ground. It was {a toy.adj} {toy}!
One day, the two friends went to look for {place.seen}. But {place.hide} they found {a toy.adj} {toy}.
They were playing {place.at} one {weather} day when {F} stumbled over something. It was {a toy.adj} {toy}!

"I saw it first!" said {H}. "No, I did!" said {F}.
"It is mine," said {H}, and grabbed it. "No, it is mine!" said {F}, and grabbed it, too.
"Finders keepers!" said {H}. "But I touched it first!" said {F}.
"You can have it tomorrow," said {H}. "No, you can have it tomorrow!" said {F}. "I want it now!"
They both grabbed it at once. "Give it to me!" shouted {H}. "Never!" shouted {F}.

?foreshadow
"If you pull like that, it will break," {elder} had often told them. But they did not think of that now.
The {toy} made a small cracking sound, but they did not hear it.

!short
{H} pulled on one side, and {F} pulled on the other.
They pulled and pushed until both of them were red in the face.
{F} pulled so hard that {F.he} nearly fell over, and {H} did not let go.

?conflict
"You always want everything!" cried {H}. "And you never share!" cried {F}.
"I will never play with you again!" {H} yelled. "Good!" {F} yelled back.

--
Snap! The {toy} broke in two, and they both fell down.
Then there was a loud crack. Now each of them held half of {a toy}.
And then it happened. The {toy} cracked, and one piece flew into the bushes.
Suddenly, the {toy} slipped out of their {hands} and broke on a stone.

Without a word, {H} went home one way and {F} went home the other way.
"Look what you did!" they both said. Then they went home without saying goodbye.
{H} turned {his} back on {F} and walked off.

The next day, {H} tried to {do} alone. But it was no fun at all.
At home, {H} sat by {himself}. {He} tried to {do}, but it was too quiet without {F}.
{H} had nobody to talk to and nobody to laugh with. {He} missed {F}.
That evening, {H} could not eat. {He} kept thinking of {F}.
The next morning was gray. Nobody called, and nobody wanted to {do} with {him}.

?dialogue
"Why are you so sad?" asked {elder}. "I had a fight with {F}," said {H}. "Which is worth more, the {toy} or your friend?" asked {elder}.
"Is {F} not coming today?" asked {elder}. {H} shook {his} head and began to cry.
"Somebody has to say sorry first," said {elder}. "It takes a brave {boy} to do that."

--
!bad
So {H} took {his} half of the {toy} and walked to {F}'s {F.home}.
In the evening, {H} could not stand it any longer. {He} ran all the way to {F}.
Then {H} picked {a flower} and went to find {F}.

?bad
Of course {H} wanted to say sorry, but {he} was too proud. {He} waited for {F} to come. And {F} waited for {H} to come.
At last {H} went to say sorry. But the {F.home} was empty. {F} had moved away that very morning.

!bad !twist
"I am sorry," said {H}. "I am sorry, too," said {F}. And they hugged each other.
{F} opened the door before {H} could knock. They both said sorry at the same time, and that made them laugh.
"You can have my half," said {H}. "And you can have mine," said {F}.

!bad ?twist
Halfway there, {he} bumped into somebody. It was {F}, who was coming to say sorry, too! {F} had already glued the {toy} together.
But on the way, {he} met {a boy} who was looking for something. It was the real owner of the {toy}! {H} and {F} said sorry to each other and then to the owner, too.

!bad !short
They mended the {toy} with some glue and string. Now it had a crack, but it belonged to both of them.
After that, they took turns. One day it was for {H}, and the next day it was for {F}.
Soon they were playing side by side as if nothing had happened.

?bad
@sad

?moral
They had learned that a friend is worth more than {a toy}.
It is better to share {a toy} than to have half of it alone.
Saying sorry is hard, but it makes the heart light.

!bad
@play
"""

TRICK = """
@open

@friend

--
One {weather} day, they were {place.at}, and {H} wanted to play a trick on {F}.
One {weather} morning, {H} was bored {place.at}. "I will trick {F}," {he} said to {himself} with a grin.
While they were playing {place.at} one day, {H} had a bad idea. {He} wanted to make {F} look silly.
Now {H} liked tricks. One day, when {F} was {place.at}, {he} thought of a very good one.

{He} took the {thing.adj} {thing} that {F} loved and hid it {place.hide}.
When {F} was not looking, {he} hid {F.his} {thing.adj} {thing} {place.hide}.
{F} had {a thing.adj} {thing}. {H} took it without asking and put it {place.hide}.

?foreshadow
"A trick is only funny if both of you laugh," {elder} had told {him} once.
High up in a tree, a crow watched with its black eyes.
Dark clouds were coming up behind the hill, but {H} did not care.

!short
Then {he} sat behind a [bush|wall|tree] and waited.
{He} put {his} {hand} over {his} mouth so that nobody could hear {him} giggle.
"This will be so funny!" {H} thought.

--
Soon {F} came back. "Where is my {thing}?" {F.he} cried.
Poor {F} looked everywhere, and {F.his} face got sadder and sadder.
"It is gone!" said {F}, and {F.his} chin began to shake.
Soon {F} looked behind every bush and called as if the {thing} could answer.
When {F} saw that the {thing} was gone, {F.he} did not shout. {F.He} sat down and cried.

?dialogue
"Have you seen my {thing}?" asked {F}. "No," said {H}, and tried not to laugh. "Maybe it flew away!"
"Did you lose something?" asked {H}. "My {thing}," {F} sobbed. "My grandma gave it to me."
"Look over there!" said {H}, and pointed the wrong way. {F} ran off to look.

?conflict
"I think you took it!" said {F}. "I did not!" said {H}, and now it was a lie, too.
"You are laughing at me," said {F}. "I am not," said {H}. But {F} turned away.

Now {H} did not feel like laughing anymore. {He} went to get the {thing}.
All at once, it was not a funny trick anymore. {H} got up and went to get the {thing}.
That was not funny at all. {H} ran to fetch the {thing}.
{H} felt a knot in {his} tummy. "I will bring it back now," {he} thought.

--
But on the way, {he} slipped and fell with a splash into a big puddle of mud!
But as {he} reached for it, {he} got stuck, and {he} could not get out by {himself}.
But a branch broke under {him}, and down {he} went, right into a heap of old wet leaves. "Ow, my foot!" {he} cried.
But {he} stepped on a loose stone, rolled all the way down and landed in a patch of nettles. "Ouch!" {he} cried.

!bad
"Help!" called {H}. {F} heard {him} and came at once. {F} pulled {him} out with both {hands}.
It was {F} who came running to help {him}. {F} did not laugh. {F.He} just held out {a F.hand}.
{F} saw what had happened. {F.He} was angry, but {F.he} helped {H} up anyway.

!bad ?twist
Then {F} grinned and took something out of a bag. It was the {thing}! "I saw you hide it," said {F}. "So I hid it again." Now the trick was on {H}!
And then {H} saw that the thing in {his} {hand} was not the {thing} at all. {F} had found the real one long ago and had played a trick, too!

?bad
And the {thing} was gone. Somebody had really taken it away.
The {thing} fell into the water, and the water carried it away forever.

!bad ?twist
"I did the wrong thing first," said {H}, and turned red. "I am sorry."
{H} did not know what to say. Then {he} had to laugh at {himself}. "I am sorry that I started it," {he} said.
"Now I know how it feels," said {H}. "I am sorry, {F}."

!bad !twist
"I hid your {thing}," {H} said quietly, and gave it back. "It was a mean trick, and I am sorry."
{H} told {F} everything and gave {F.him} the {thing}. "I am sorry I made you cry," {he} said.
They got the {thing} out together. "I only wanted to be funny," said {H}. "But it was not funny for you. I am sorry."

?bad
{H} had to tell {F} the truth. {F} did not talk to {him} for a long, long time.
"It was only a trick," {H} said. But {F} walked away and did not look back.

!bad
"All right," said {F}. "But next time, let's play a trick together."
{F} looked at the muddy face of {H} and had to smile. "I forgive you," said {F}.
{F} thought about it. "Say it again," said {F}. "I am sorry," said {H}. Then they were friends again.

?bad
@sad

?moral
{H} learned that a joke is only good when everybody can laugh.
Whoever plays mean tricks may end up in the mud.
From that day on, {H} only played tricks that did not hurt anyone.

!bad
@play
"""

SHARE = """
@open

--
One {weather} day, {elder} gave {H} {a food.adj} {food}.
One {weather} afternoon, {H} bought {a food.adj} {food} from {neighbor}, the {job}.
For being good all week, {H} got {a food.adj} {food} from {elder}.
One {weather} morning, {H} found {a food.adj} {food} on the table, and on a note beside it was {his} name.

!short
It smelled so good! {H} took it to the {place} to eat it in peace.
{He} carried it to the {place}, where nobody would bother {him}.
"This is all for me," {H} said, and sat down {place.at}.

?foreshadow
"It tastes even better with a friend," said {elder} as {he} went out.
{H} did not look where {he} put down {his} bag, and the bag was open.

--
Just then, {F} came by. {F} was {a trait2} {F.boy} whose tummy was rumbling.
There sat {F}, {a trait2} {F.boy} who had not had any breakfast.
{A F.boy} named {F} looked at the {food} with big, hungry eyes.

"That looks good," said {F}. "May I have a little bit?"
"Could I have just one bite?" asked {F}. "I am so hungry."
"Mmm," said {F}. "I can smell it from here. Is there some for me?"
"I have not eaten all day," said {F} softly. "Would you share with me?"

"No," said {H}. "It is mine." And {he} turned away.
{H} held the {food} close. "There is not enough for two," {he} said.
{H} did not want to share. "Get your own," {he} said.
{H} put both arms around the {food}. "Mine!" {he} said.
"I am hungry, too," said {H}, although {he} had eaten a big breakfast.

?conflict
"That is not nice," said {F}. "I gave you half of my lunch last week." {H} pretended not to hear.
{F} stamped {F.his} foot. "You are mean!" {F.he} said. "I am not!" said {H}.

!short
{F} said nothing and went away with {F.his} head down.
A tear ran down {F}'s nose, and {F.he} walked off.
"All right," said {F}, and sat down under {a tree}, all alone.

--
Then {H} took a bite. But somehow it did not taste as good as it smelled.
Now {H} opened {his} mouth, but then {he} thought of {F}, and the {food} seemed to stick in {his} throat.
For a while, {H} looked at the {food}, and the {food} seemed to look back. Suddenly {he} was not hungry anymore.
All alone, {H} wanted to eat and then go to {do}. But {his} heart felt heavy.

?dialogue
"Why did I say no?" {H} asked {himself}. "I know what it is like to be hungry."
"Is it good?" asked a passing {beast}. At least, that was what it sounded like. "Not alone," said {H}.

?bad
{H} ate it all up, down to the last crumb. Then {his} tummy began to hurt.
While {H} was thinking, {a beast} snatched the {food.adj} {food} and {beast.went} away with it. Now nobody had any.

!bad
{He} jumped up and ran after {F}. "Wait!" {he} called. "We can share it!"
{He} broke the {food} in two and held out the bigger piece. "This is for you, {F}," {he} said.
{H} walked over to {F} and sat down. "I am sorry," {he} said. "Half of it is yours."

!bad !twist
{F} ate with shining eyes. "This is the best {food} I ever had!" said {F}.
They ate and talked and laughed until there was not one crumb left.
"One bite for you and one bite for me," they said, until it was all gone.
They sat side by side and ate. Now it tasted even better than it smelled.

!bad ?twist
Then {F} opened {F.his} own bag. "I was keeping this for later," said {F}, and took out a second {food}, even bigger than the first! "Now we can share mine, too."
The next day, there was a basket at the door, full of good things. "{F} and the whole family say thank you!" said the note.

!bad !short
{F} smiled with crumbs on {F.his} chin.
"Next time, I will bring something for you," said {F}.
"Do you want to be my friend?" asked {F}. "Yes!" said {H}.

?bad
"Now I wish I had shared," {H} said. But {F} was already gone.
{H} looked for {F} to say sorry, but {F} was playing with other {folk} and did not look up.

?bad
@sad

?moral
{H} learned that things taste better when you share them.
Half of something with a friend is more than all of it alone.
If you give a little, you get a lot back.

!bad
@play
"""
