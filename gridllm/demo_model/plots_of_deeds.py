"""Plots in which the two do something: share, travel, plant, compete, build, lift what is too heavy for one."""

__all__ = ["PLOTS_OF_DEEDS"]

SHARE = (
    "favour trouble",
    "{He} had learned that kindness comes back in the end.",
    """
    showed {him} the way home|{name} got lost in the fog
    pulled {him} out with a stick|{name} fell into a muddy ditch
    brought {him} a blanket|{name} caught a bad cold
    held the lantern for {him}|{name} had to walk home in the dark
    carried half of the load|{name} had to bring firewood up the hill
    chased the wasps away|{name} sat down too close to a nest""",
    "{time}, {name} had {total} {food} in {his} basket. | {time}, {name} picked {total} {food} and put them in a "
    "basket.",
    "On the way {he} met {friend} the {fkind}, who had not eaten all day. | {friend} the {fkind} was sitting by the "
    "road, tired and hungry.",
    "{name} gave {given} {food} to {friend} and kept {left}. | {name} thought for a moment and gave {friend} "
    "{given} of the {food}, so {left} were left. | {given_words} {food} went to {friend}, and {name} still had "
    "{left}.",
    '"Thank you," said {friend}. "I will not forget this." | {friend} ate every crumb and promised to return the '
    "favour.",
    "A week later {trouble}. | Not long after that, {trouble}.",
    "It was {friend} who {favour}. | Who came along just then? It was {friend}, who {favour}. | {friend} remembered "
    "the {food} and {favour}.",
)

JOURNEY = (
    "goal barrier crossing sight",
    "{He} had learned that a long road is short with a friend.",
    """
    the sea|a wide river|floated across on a log|waves that shone like silver
    the top of the mountain|a steep wall of rock|climbed up step by step|the whole land far below
    the great waterfall|a dark wood|followed the sound of the water|a rainbow in the spray
    the city|a long dusty road|rode on the back of a cart|a thousand lights in the windows
    the northern ice|a field of deep snow|made shoes out of bark|green lights dancing in the sky
    the hidden lake|a thick hedge of thorns|crept through a tiny gap|white swans on the still water
    the oldest tree in the world|a swamp|jumped from stone to stone|names carved in the bark long ago""",
    "{name} had always wanted to see {goal}. | All winter long {name} dreamed of {goal}.",
    "{time}, {he} packed some {food} and set out with {friend} the {fkind}. | {time}, {he} asked {friend} the "
    '{fkind}, "Will you come with me to {goal}?" and {friend} said yes.',
    "After two days they came to {barrier}. | They walked and walked until {barrier} stopped them. | Halfway there, "
    "{barrier} blocked the way.",
    "{name} wanted to turn back, but {friend} had an idea. | For a while neither of them knew what to do. | They "
    "ate the last of the food and thought about it.",
    "They {crossing}, and soon they were on the other side. | In the end they {crossing}, which took all morning.",
    "And then they saw {goal}, with {sight}. | There it was at last: {goal}, and {sight}. | When they reached "
    "{goal} they saw {sight}, and they were silent for a long time.",
)

GARDEN = (
    "seed plant fruit",
    "{He} had learned that good things need time.",
    """
    tiny brown seed|sunflower|a golden flower as big as a plate
    hard little stone|cherry tree|sweet red cherries
    round white bean|bean plant|so many beans that the basket was full
    shiny black seed|melon plant|a melon that two could hardly carry
    wrinkled old seed|rose bush|roses that smelled of honey
    flat pale seed|pumpkin plant|a pumpkin as round as the moon""",
    "{time}, {name} found a {seed} near {ref}. | {time}, {friend} the {fkind} gave {name} a {seed}.",
    "{He} planted it in the ground and watered it every day. | {He} dug a hole, put the {seed} in and covered it "
    "with soft earth.",
    "But day after day nothing happened, and {name} grew impatient. | A week went by, but there was nothing to see.",
    '"Good things need time," said {friend} the {fkind}. | {friend} the {fkind} told {him} that roots grow first, '
    "where no one can see them.",
    "So {name} waited, through sun and rain. | So {he} kept on watering, even when it was cold.",
    "Then a green shoot came up, and it grew into a {plant}. | One day a leaf pushed through the earth, and by "
    "summer there was a fine {plant}.",
    "It gave {fruit}, and {name} shared the joy with {friend}. | In the end it gave {fruit}. {friend} had been right.",
)

RACE = (
    "contest boast slip reason",
    "{He} had learned that a quiet start can lead to a good end.",
    """
    a race around the lake|nobody is as fast as I am|stopped for a nap|{fhe} was sure to win
    a cooking contest|my soup is the best in the land|put sugar in the pot|{fhe} did not read the label
    a boat race|my boat will leave you all behind|ran onto a sandbank|{fhe} looked only at the crowd
    a spelling contest|I never make mistakes|forgot a letter|{fhe} spoke without thinking
    a contest of riddles|there is no riddle I cannot solve|gave the wrong answer|{fhe} did not listen to the end
    a kite contest|my kite will touch the clouds|let go of the string|{fhe} was busy waving""",
    "{time}, there was {contest}, and everyone near {ref} came to see it. | {time}, {name} heard that there would "
    "be {contest}.",
    '"I shall win, for {boast}," said {friend} the {fkind}. | {friend} the {fkind} laughed at {name} and said, '
    '"{Boast}."',
    "{name} said nothing and got ready as well as {he} could. | {name} was nervous, but {he} practised every day.",
    "At first {friend} was far ahead. | When the contest began, {friend} took the lead at once.",
    "But then {friend} {slip}, because {reason}. | Near the end {friend} {slip}. That happened because {reason}.",
    "Slowly and steadily {name} did {his} part and won the prize. | So it was {name} who won, to the surprise of all.",
    '"I am sorry that I boasted," said {friend}, and they shared the prize. | {friend} was ashamed, but {name} gave '
    "{fhim} half of the prize.",
)

MAKE = (
    "work flaw change proof",
    "{He} had learned to look twice before giving up.",
    """
    a boat|it leaked|sealed it with wax|sailed to the other shore and back
    a flute|it made no sound|cut one more hole|played a tune that made the birds listen
    a clock|it ran too fast|hung a heavier weight on it|rang at noon exactly
    a cart|it always rolled to the left|made both wheels the same size|carried ten sacks to the market
    a lamp|the flame went out|put a glass around it|shone through the whole night
    a wooden bird|it would not fly|made the wings longer|glided over the roofs
    a bridge of rope|it swung too much|tied it to a second tree|carried even the heaviest bear""",
    "{time}, {name} decided to build {work}. | {name} liked to make things, and {time_low} {he} began to build {work}.",
    "It took {him} many days of hard work. | {He} worked on it from dawn to dusk.",
    "But when it was done, {flaw}. | But there was a problem: {flaw}.",
    'Some laughed, but {friend} the {fkind} did not. "What have you tried?" {fhe} asked. | {name} wanted to throw '
    "it away, but {friend} the {fkind} stopped {him}.",
    "They studied it together, and then {name} {change}. | {friend} had an idea, and so {name} {change}.",
    "This time it {proof}. | It worked! It {proof}, and nobody laughed any more.",
)

TOGETHER = (
    "load reason parts",
    "{He} had learned that many small hands can lift a heavy stone.",
    """
    a huge stone|it blocked the only road|each took one end of a beam
    a great bell|it had to hang in the tower before the feast|each pulled on one rope
    a fallen tree|it lay across the stream|each carried one branch
    a very long book|it had to be copied before winter|each copied one chapter and passed it on
    a giant puzzle|the prize was a winter's supply of food|each solved one corner
    a big old engine|it had to be brought up the hill|each carried one part""",
    "{time}, {name} stood in front of {load}, and {reason}. | {time}, everyone near {ref} gathered around {load}, "
    "for {reason}.",
    "{name} tried alone, but it was far too much for one. | It was too much for {name}, and too much for {friend} "
    "the {fkind}.",
    '"No one is strong enough," said the crowd. | "We need a giant," somebody said, "and we have none."',
    '"We do not need a giant," said {friend} the {fkind}. "We need each other." | Then {friend} the {fkind} said, '
    '"What if each of us does a small part?"',
    "So they stood in a long chain, and {parts}. | They called all the neighbours, and {parts}.",
    "When one grew tired, another stepped into the gap. | One of them had to rest, but the next in line took over "
    "at once.",
    "Before the sun went down the work was done. | What none could do alone, they had done together.",
)

PLOTS_OF_DEEDS = (SHARE, JOURNEY, GARDEN, RACE, MAKE, TOGETHER)
