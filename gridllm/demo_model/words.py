"""Words that fill the slots of the stories."""

__all__ = ["BOYS", "FOODS", "GIRLS", "KINDS", "MORALS", "PLACES", "TIMES", "TRAITS"]

GIRLS = (
    "Mia", "Lily", "Anna", "Rosa", "Nora", "Ella", "Ruby", "Clara", "Ivy", "Hazel", "Luna", "Daisy", "Maya",
    "Tess", "Olive", "Greta", "Wren", "Pearl",
)  # fmt: skip
BOYS = (
    "Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Oscar", "Hugo", "Jack", "Theo", "Milo", "Otto", "Felix", "Arlo",
    "Jasper", "Toby", "Rufus", "Gus",
)  # fmt: skip

KINDS = (
    "fox", "rabbit", "bear", "owl", "mouse", "hedgehog", "otter", "badger", "squirrel", "frog", "duck", "turtle",
    "cat", "dog", "goat", "pony", "crow", "mole", "beaver", "deer", "goose", "snail", "wolf", "lamb",
)  # fmt: skip

# The place as a story introduces it -> how later sentences refer back to it.
PLACES = {
    "at the edge of a quiet forest": "the forest",
    "in a small village by the sea": "the village",
    "in a green valley between two hills": "the valley",
    "on an old farm": "the farm",
    "beside a slow river": "the river",
    "near a round blue lake": "the lake",
    "on a windy hill": "the hill",
    "in a sunny meadow": "the meadow",
    "under the roots of a tall oak": "the oak",
    "on a little island": "the island",
    "in a town with crooked streets": "the town",
    "behind the old mill": "the mill",
    "in a deep wood full of pines": "the wood",
    "close to a stone bridge": "the bridge",
    "in a garden with a high wall": "the garden",
    "at the foot of a snowy mountain": "the mountain",
    "in a warm barn": "the barn",
    "by the harbour": "the harbour",
}

# What the hero is like -> what that makes the hero do, after "so".
TRAITS = {
    "curious": "{he} asked questions all day long",
    "shy": "{he} seldom spoke to anyone",
    "brave": "the others often asked {him} for help",
    "clever": "everyone came to {him} with their riddles",
    "lazy": "{he} slept until noon whenever {he} could",
    "kind": "{he} had many friends",
    "impatient": "{he} could never wait for anything",
    "cheerful": "{he} sang from morning to night",
    "careful": "{he} looked at everything twice",
    "forgetful": "{he} tied little knots to remember things",
    "proud": "{he} did not like to ask for help",
    "quiet": "{he} noticed what others missed",
    "restless": "{he} was never at home for long",
    "gentle": "even the bees were not afraid of {him}",
    "hungry": "{he} always carried a snack",
    "small": "{he} could hide almost anywhere",
}

FOODS = (
    "apples", "pears", "berries", "nuts", "plums", "carrots", "cookies", "cherries", "pancakes", "muffins", "buns",
    "figs", "turnips", "radishes",
)  # fmt: skip

TIMES = (
    "One morning",
    "One day",
    "One evening",
    "One cold afternoon",
    "Early one spring",
    "On a bright summer day",
    "One windy autumn day",
    "On the first day of winter",
    "One Sunday",
)

MORALS = (
    "That night {name} fell asleep with a smile.",
    "And whenever it rained over {ref}, {name} and {friend} told the story again.",
    "From that day on, {name} and {friend} met near {ref} every week.",
    "Even now the {kind} and the {fkind} laugh about it.",
    "{name} thanked {friend}, and {friend} only smiled.",
    "And that is how the {kind} and the {fkind} became best friends.",
    "They walked back to {ref} together, and the stars came out one by one.",
    "{friend} said that it had been the best day of the year, and {name} agreed.",
)
