"""Plots in which something turns up: a map, a stranger, a birthday, a bargain, a flood, a village of machines."""

__all__ = ["PLOTS_OF_LUCK"]

TREASURE = (
    "holder clue prize use",
    "{He} had learned that the way there can be the best part.",
    """
    an empty bottle|where the shadow of the tallest tree ends|a chest full of old coins|bought new books for the school
    the cover of an old book|seven steps north of the well|a golden compass|never lost their way again
    the pocket of a scarecrow|behind the third waterfall|a music box that still played|danced until midnight
    a crack in the wall|under the stone that looks like a sleeping cat|a box of seeds|planted an orchard for everyone
    a broken teapot|in the hollow tree by the crossroads|a silver whistle|called each other across the fields
    the attic|beneath the bench where the sun sets|a jar of honey|had sweet bread all winter""",
    "{time}, {name} found a map in {holder}. | {time}, {name} pulled a yellow map out of {holder}.",
    '"Look {clue}," it said in faded ink. | There was only one line on it: "Look {clue}."',
    "{name} did not understand it, but {friend} the {fkind} did. | {He} read it to {friend} the {fkind}, whose eyes "
    "grew wide.",
    "They took a spade and set out before breakfast. | All morning they followed the map, and twice they got lost.",
    "And there, {clue}, they dug until the spade hit something hard. | At noon they stood at the right spot and "
    "began to dig.",
    "It was {prize}! | Out of the earth came {prize}. | What they held in their hands was {prize}.",
    "With it they {use}. | They shared what they had found and {use}.",
)

STRANGER = (
    "look need gift magic",
    "{He} had learned that a good deed is never small.",
    """
    an old woman with a crooked stick|a cup of water|a plain grey pebble|glowed in the dark like a little moon
    a traveller with a torn coat|a needle and thread|a wooden button|kept its owner warm in any weather
    a tired postman|a place to rest|a blue stamp|brought every letter to the right door
    a juggler with only one ball|an apple to juggle with|a red ribbon|made everyone laugh who saw it
    a sailor without a ship|a bowl of soup|a white shell|sang the song of the sea
    a painter who had lost his brush|a feather|a tiny picture|changed with the seasons""",
    "{time}, {look} came to {ref}. | {time}, {name} met {look} on the way to {ref}.",
    '"Could you spare me {need}?" the stranger asked. | The stranger was polite and asked for {need}.',
    "{friend} the {fkind} warned {him} not to talk to strangers, but {name} wanted to help. | {name} had little to "
    "give, yet {he} brought {need} at once.",
    "The stranger thanked {him} and left {gift} behind. | In return {he} was given {gift}.",
    '"It is only {gift}," said {friend} the {fkind}. | {friend} the {fkind} looked at it and shook {fhis} head.',
    "But that night it {magic}. | But there was more to it than met the eye: it {magic}.",
    "{friend} could hardly believe it, and {name} showed it to everyone. | {name} kept it all {his} life, and "
    "{friend} never made fun of it again.",
)

BIRTHDAY = (
    "doubt secret surprise",
    "{He} had learned not to judge too soon.",
    """
    nobody had said a word in the morning|hanging lanterns in the trees|a hundred lanterns shone over the tables
    the kitchen was empty|baking a cake with five layers|a cake as tall as a chair stood on the table
    all the doors were locked|practising a song|the whole choir began to sing
    even the postman walked past|painting a boat|a boat lay on the grass with a bow around it
    the swing hung still|building a house in the tree|a house with a real window stood in the branches""",
    "{time}, it was {name}'s birthday, but {doubt}. | {time}, {name} woke up happy, for it was {his} birthday. But "
    "{doubt}.",
    '"They have all forgotten me," thought {name}. | {name} sat alone under a tree and felt very small.',
    "{He} did not know that {friend} the {fkind} and the others were {secret}. | What {he} could not see was that "
    "{friend} the {fkind} and the neighbours were {secret}.",
    'Then {friend} came running and said, "Close your eyes and follow me!" | At sunset {friend} took {him} by the '
    "hand and led {him} away.",
    "When {name} opened {his} eyes, {surprise}. | Then {surprise}, and everyone shouted with joy.",
    '"We would never forget you," said {friend}. | {name} laughed and cried at the same time, and {friend} gave '
    "{him} the first slice of cake.",
)

BARGAIN = (
    "first second third last",
    "{He} had learned that what is old to one is new to another.",
    """
    a bent nail|a ball of wool|a pair of socks|a warm blanket for the winter
    a feather|a pen|a poem|a ticket to the fair
    a handful of clay|a cup|a pot of jam|a basket of fresh bread
    a broken wheel|a barrel|a sled|a ride to the end of the valley and back
    an old rope|a net|a big fish|a dinner for the whole street""",
    "{time}, {name} went to the market with nothing but {first}. | {time}, all that {name} owned was {first}, and "
    "{he} took it to the market.",
    '"I can use that," said the smith, and gave {him} {second} for it. | A farmer needed it badly and paid with '
    "{second}.",
    "For {second} {he} got {third} from {friend} the {fkind}. | {friend} the {fkind} saw {second} and offered "
    "{third} for it.",
    "And in the evening {name} came home with {last}. | By the end of the day {third} had turned into {last}.",
    '"How did you do that?" asked {friend}. "Everyone needed what another had," said {name}. | {name} shared it '
    "with {friend}, without whom there would have been no bargain.",
)

FLOOD = (
    "sign warning place_high saved",
    "{He} had learned to listen to the smallest voice.",
    """
    the ants were moving uphill|the river will rise tonight|the loft of the mill|all the books of the school
    the birds had stopped singing|the snow will come down from the mountain|the stone tower|the winter food
    the well was boiling with bubbles|the dam is going to break|the church roof|every single hen
    the wind smelled of smoke|a fire is coming|the island in the pond|the old piano
    the fish were jumping|the sea will come over the wall|the top of the dunes|all the fishing nets""",
    "{time}, {name} noticed that {sign}. | {time}, something was odd: {sign}.",
    '"I think {warning}," {he} said, but the others only laughed. | {He} ran from door to door and told everyone '
    "that {warning}.",
    "Only {friend} the {fkind} believed {him}. | Nobody listened but {friend} the {fkind}, who began to pack at once.",
    "The two of them carried what they could to {place_high}. | All afternoon they went back and forth to "
    "{place_high}.",
    "It happened just as {name} had said. | That very night it came, and it was worse than anyone had feared.",
    "But thanks to {name} and {friend}, {saved} had been saved. | When morning came, {saved} had been saved, and "
    "everyone thanked the two.",
)

MACHINES = (
    "wish small",
    "{He} had learned that many small machines can do what one great machine cannot.",
    """
    to know all the stories of the world|an old laptop that hummed in the kitchen
    to talk to a thinking machine|a dusty computer from the attic
    to write a song with a machine|a grey box that nobody wanted
    to ask a machine about the stars|a little computer no bigger than a book""",
    "{name} had one great wish: {wish}. | More than anything, {name} wanted {wish}.",
    "But all {he} had was {small}, and it was far too weak. | The model for that was as big as a house, and {name} "
    "had only {small}.",
    '"Mine is just as small," said {friend} the {fkind}, "but I know others." | {friend} the {fkind} had a small '
    "computer too, and so had the neighbours.",
    "So they joined the grid, and each computer took a few blocks of the model. | They tied their computers "
    "together in a chain, a few blocks on each.",
    "The first one passed its work to the second, and the second to the third. | A word went in at one end, and a "
    "new word came out at the other.",
    "One evening a computer fell asleep, but another took its blocks and nobody noticed. | When one of them went "
    "home, another took its place.",
    'And the first thing the model wrote was: "Once upon a time." | That night the model told them a story, and it '
    "was about a {kind} and a {fkind}.",
)

PLOTS_OF_LUCK = (TREASURE, STRANGER, BIRTHDAY, BARGAIN, FLOOD, MACHINES)
