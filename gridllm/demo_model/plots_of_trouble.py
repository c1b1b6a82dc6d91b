"""Plots in which something goes wrong: a loss, a storm, a fear, a noise at night, a quarrel."""

__all__ = ["PLOTS_OF_TROUBLE"]

LOST = (
    "thing spot why",
    "{He} had learned that four eyes see more than two.",
    """
    red scarf|under the bench|the wind had carried it there
    silver key|inside an old boot|a magpie had dropped it there
    blue ball|behind the well|it had rolled down the path
    little drum|in the hay|someone had covered it by mistake
    wooden spoon|at the bottom of a basket|it had slipped between the towels
    yellow kite|in the top of a birch|the string had been caught on a branch
    brass bell|in the mud by the gate|the rain had washed it away
    warm mitten|in the pocket of a coat|{he} had put it there and forgotten""",
    "{time}, {name} could not find {his} {thing}. | {time}, {name} woke up and saw that {his} {thing} was gone.",
    "{He} looked under the bed and behind the door, but it was nowhere to be seen. | {He} searched all around "
    "{ref}, but there was no sign of it. | {He} turned the whole house upside down and found only dust.",
    "{friend} the {fkind} saw how sad {he} was and offered to help. | {name} sat down and cried until {friend} the "
    '{fkind} came by. | "Have you seen my {thing}?" {he} asked {friend} the {fkind}.',
    '"Where did you have it last?" asked {friend}. | "Let us look together," said {friend}. "Four eyes see more '
    'than two." | "We will go back the way you came," said {friend}.',
    "At last they found the {thing} {spot}, because {why}. | They looked {spot}, and there was the {thing}! It "
    "turned out that {why}. | {friend} looked {spot} and laughed, for there lay the {thing}: {why}.",
    "{name} held the {thing} tight and promised to take better care of it. | {name} was so happy that {he} danced "
    "around {friend} with the {thing}. | To say thank you, {name} let {friend} keep the {thing} for a day.",
)

STORM = (
    "broken effect tool repair",
    "{He} had learned that asking for help is not a weakness.",
    """
    the little bridge|nobody could cross the stream|a long rope|tied the planks together again
    the roof of the barn|the hay got wet|a tall ladder|nailed new boards over the hole
    the garden fence|the goats ate the cabbages|a heavy hammer|set the posts back in the ground
    the mill wheel|there was no flour for bread|a strong lever|pushed the wheel back into place
    the old boat|no one could go fishing|a pot of tar|closed the crack in its side
    the door of the school|snow blew over the desks|a box of screws|hung the door on new hinges
    the lamp on the tower|the ships could not find the shore|a bottle of oil|lit the lamp once more""",
    "{time}, a great storm came over {ref}. | {time}, black clouds rolled over {ref} and the wind began to howl.",
    "In the morning {name} saw that the storm had broken {broken}. | The wind tore at {broken} until it broke.",
    "Now {effect}, and everyone was worried. | Because of that, {effect}. | Without it {effect}, and that was bad "
    "news.",
    '"I cannot mend it alone," said {name}, "but I know who can help." {He} ran to {friend} the {fkind}. | {name} '
    "went to {friend} the {fkind}, who owned {tool}.",
    "{friend} brought {tool}, and together they {repair}. | With {tool} from {friend}'s house they {repair}. | They "
    "worked all day, and with {tool} they {repair}.",
    "When they were done, {broken} was stronger than before. | By sunset {broken} was as good as new, and the "
    "neighbours cheered.",
)

FEAR = (
    "fear sign advice deed",
    "{He} had learned that even the brave are sometimes afraid.",
    """
    the dark|a shadow moved on the wall|count the stars until it feels like home|walked through the night without a lamp
    deep water|the boat began to rock|keep your eyes on the far shore|swam all the way to the other side
    thunder|the sky began to rumble|count from the flash to the bang|stood at the window and watched the lightning
    high places|the ladder started to shake|look up and never down|climbed to the very top of the tree
    strangers|someone knocked at the door|say hello before you run away|opened the door and asked the stranger in
    singing in front of others|it was time for the concert|sing for one friend only|sang so well that all cheered""",
    "{name} had one secret: {he} was afraid of {fear}. | Nobody knew that {name} was afraid of {fear}.",
    "{time}, {sign}, and {name} hid under the table. | {time}, {sign}. {name} trembled from head to toe.",
    '{friend} the {fkind} sat down beside {him} and said, "Everyone is afraid of something." | "What is wrong?" '
    "asked {friend} the {fkind}, and {name} told {fhim} everything.",
    '"I was afraid of {fear} too," said {friend}. "Here is what I do: {advice}." | "My grandmother taught me a '
    'trick," said {friend}. "You must {advice}."',
    "{name} tried it once, and it did not work. {He} tried it again, and {his} heart grew calm. | {name} took a "
    "deep breath and did just that.",
    "The next time, {name} {deed}. | Before the week was over, {name} {deed}, and {friend} was proud of {him}.",
)

NOISE = (
    "noise guess truth cure",
    "{He} had learned that most ghosts are smaller than they sound.",
    """
    a soft knocking|a ghost|a woodpecker chick that had fallen from its nest|lifted it back into the nest
    a thin crying|the wind|a kitten that was stuck in a pipe|pulled it out with a towel
    a strange humming|a giant bee|a beetle that was caught in a jar|opened the lid and let it fly
    a slow scratching|a monster|an old hedgehog who wanted to come in from the cold|made a bed for it by the stove
    a sad whistle|a lost train|a young swallow with a hurt wing|bound the wing with a ribbon
    a quiet splashing|a sea snake|a fish that was trapped in a puddle|carried it back to the water""",
    "{time}, {name} heard {noise} outside. | {time}, when all was still, {name} was woken by {noise}.",
    '"It must be {guess}," {he} thought, and pulled the blanket over {his} head. | {He} was sure that it was {guess}.',
    "But the {noise_word} did not stop, so {he} went to wake {friend} the {fkind}. | The {noise_word} went on, and "
    "so {name} called for {friend} the {fkind}.",
    "Side by side they crept out with a lantern. | They held hands and followed the sound.",
    "It was not {guess} at all. It was {truth}. | What they found was {truth}, and they both began to laugh.",
    "They {cure}, and after that the night was quiet. | {friend} held the lantern while {name} {cure}. Then all was "
    "still.",
)

QUARREL = (
    "thing harm mend",
    "{He} had learned that it is never too late to say sorry.",
    """
    sled|the sled tipped over and broke|built a bigger one with room for two
    swing|the rope snapped|tied a new rope and took turns
    book|a page was torn|glued the page and read it aloud together
    kite|the kite flew away|made a new one out of paper and sticks
    cake|the cake fell on the floor|baked another one and cut it in half
    map|the map fell in the fire|drew a new one from memory""",
    "{time}, {name} and {friend} the {fkind} both wanted the same {thing}. | {time}, {name} and {friend} the "
    "{fkind} began to quarrel over a {thing}.",
    '"It is mine!" cried {name}. "No, I saw it first!" cried {friend}. | {name} pulled on one side and {friend} on '
    "the other.",
    "They pulled so hard that {harm}. | Neither would give in, and in the end {harm}.",
    "Both went home angry, and neither of them could sleep. | For three days they did not say a word to each other.",
    '{Time_later} {name} knocked at the door and said, "I am sorry." | {Time_later} {friend} came to {ref} and '
    'said, "I miss you more than the {thing}."',
    "They made peace and {mend}. | Then they {mend}, and it was better than before.",
)

PLOTS_OF_TROUBLE = (LOST, STORM, FEAR, NOISE, QUARREL)
