"""The words and wordings of the built-in grammar: what can be asked, about what, and in which ways.

An intent has slots, each with a list of fillers, and several wordings that ask the same thing. Within a
domain every combination of fillers is a sensible question, so that combinations can be held out while
each single word is seen in training. Two rules keep every sentence grammatical: a filler that follows
"a" starts with a consonant sound, and a verb form is asked for as `{slot.ing}` or `{slot.s}` and looked
up in `VERBS` by the first word of the filler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Slots = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Intent:
    """One thing to ask.

    wordings: templates with `{slot}`; domains: slot → fillers, a meaning takes all its fillers from one
    domain; symmetric: the fillers of slots `a` and `b` may change places without changing the meaning.
    Slots `a` and `b` never hold the same filler.
    """

    name: str
    wordings: tuple[str, ...]
    domains: tuple[Slots, ...]
    symmetric: bool = False


def _words(text: str) -> tuple[str, ...]:
    """A comma-separated list as a tuple."""
    return tuple(word.strip() for word in text.split(","))


def _each(pattern: str, text: str) -> tuple[str, ...]:
    """The pattern filled with each word of a comma-separated list."""
    return tuple(pattern.format(word) for word in _words(text))


VERBS: dict[str, dict[str, str]] = {
    base: {"s": third_person, "ing": gerund}
    for base, third_person, gerund in (
        ("beep", "beeps", "beeping"),
        ("bite", "bites", "biting"),
        ("break", "breaks", "breaking"),
        ("buzz", "buzzes", "buzzing"),
        ("camp", "camps", "camping"),
        ("chew", "chews", "chewing"),
        ("cook", "cooks", "cooking"),
        ("cycle", "cycles", "cycling"),
        ("dance", "dances", "dancing"),
        ("destroy", "destroys", "destroying"),
        ("draw", "draws", "drawing"),
        ("drive", "drives", "driving"),
        ("eat", "eats", "eating"),
        ("fly", "flies", "flying"),
        ("hide", "hides", "hiding"),
        ("hike", "hikes", "hiking"),
        ("lick", "licks", "licking"),
        ("light", "lights", "lighting"),
        ("lose", "loses", "losing"),
        ("overheat", "overheats", "overheating"),
        ("play", "plays", "playing"),
        ("ride", "rides", "riding"),
        ("run", "runs", "running"),
        ("scratch", "scratches", "scratching"),
        ("shut", "shuts", "shutting"),
        ("sleep", "sleeps", "sleeping"),
        ("smell", "smells", "smelling"),
        ("speak", "speaks", "speaking"),
        ("steal", "steals", "stealing"),
        ("travel", "travels", "traveling"),
        ("turn", "turns", "turning"),
        ("walk", "walks", "walking"),
    )
}
"""Base form → its third person and gerund."""

CITIES = _words(
    "amsterdam, athens, barcelona, berlin, bordeaux, brussels, budapest, cologne, florence, geneva, "
    "hamburg, krakow, lisbon, london, lyon, madrid, milan, munich, naples, paris, porto, prague, rome, "
    "seville, stuttgart, turin, venice, vienna, warsaw, zurich"
)
MONTHS = _words(
    "january, february, march, april, may, june, july, august, september, october, november, december"
)

INTENTS: tuple[Intent, ...] = (
    Intent(
        "learn a skill",
        (
            "how can i learn to {skill} in {number} {unit}?",
            "how do i get good at {skill.ing} in {number} {unit}?",
            "what should i do to {skill} well in {number} {unit}?",
            "with only {number} {unit}, how do i learn to {skill}?",
            "in {number} {unit} i want to {skill}, how do i start?",
        ),
        (
            {
                "skill": (
                    *_each(
                        "play the {}",
                        "banjo, cello, clarinet, drums, flute, guitar, harp, organ, piano, saxophone, "
                        "trumpet, ukulele, violin",
                    ),
                    *_each(
                        "speak {}",
                        "arabic, dutch, english, french, german, greek, hindi, italian, japanese, korean, "
                        "polish, russian, spanish, swedish, turkish",
                    ),
                    *_each("cook {} food", "chinese, indian, mexican, persian, thai, vietnamese"),
                    *_each("dance the {}", "foxtrot, polka, rumba, salsa, samba, tango, waltz"),
                    *_each("draw {}", "birds, cartoons, faces, flowers, hands, horses, landscapes, trees"),
                ),
                "number": _words("two, three, four, five, six, seven, eight, nine, ten, eleven, twelve"),
                "unit": _words("weeks, months"),
            },
        ),
    ),
    Intent(
        "find a place",
        (
            "where can i find a {kind} {place} in {city}?",
            "can you recommend a {kind} {place} in {city}?",
            "which {kind} {place} in {city} do you like best?",
            "where in {city} is there a {kind} {place}?",
            "i am visiting {city}, do you know a {kind} {place}?",
        ),
        (
            {
                "kind": _words(
                    "big, charming, cheap, clean, decent, famous, friendly, good, modern, nice, popular, "
                    "quiet"
                ),
                "place": _words(
                    "bakery, bar, bookstore, cafe, cinema, club, gallery, gym, hostel, hotel, library, "
                    "market, museum, pub, restaurant, theater"
                ),
                "city": CITIES,
            },
        ),
    ),
    Intent(
        "cause of a fault",
        (
            "why does my {age} {device} {fault} {when}?",
            "what makes my {age} {device} {fault} {when}?",
            "how come my {age} {device} keeps {fault.ing} {when}?",
            "what could cause my {age} {device} to {fault} {when}?",
            "my {age} {device} {fault.s} {when}, what is the reason?",
        ),
        (
            {
                "age": _words("big, black, little, new, old, white"),
                "device": _words(
                    "computer, dishwasher, dryer, fan, freezer, fridge, heater, laptop, microwave, phone, "
                    "printer, projector, radio, router, scanner, tablet, television, toaster"
                ),
                "fault": _words(
                    "beep, break down, buzz loudly, lose power, overheat, shut down, "
                    "smell of plastic, turn itself off"
                ),
                "when": _words(
                    "after a storm, after an hour, at night, every few minutes, in cold weather, "
                    "in hot weather, in summer, in the evening, in the morning, in winter, on weekends"
                ),
            },
        ),
    ),
    Intent(
        "difference between two things",
        (
            "what is the difference between {a} and {b} in {aspect}?",
            "how do {a} and {b} differ in {aspect}?",
            "how different are {b} and {a} in {aspect}?",
            "how would you compare the {aspect} of {a} and {b}?",
            "when it comes to {aspect}, how do {b} and {a} compare?",
        ),
        tuple(
            {"a": _words(things), "b": _words(things), "aspect": _words(aspects)}
            for things, aspects in (
                (
                    "beer, cider, cocoa, coffee, juice, lemonade, milk, tea, wine",
                    "color, price, smell, taste",
                ),
                (
                    "cotton, denim, leather, linen, nylon, silk, velvet, wool",
                    "comfort, price, texture, weight",
                ),
                (
                    "brass, bronze, copper, gold, iron, silver, steel, tin, zinc",
                    "color, price, strength, weight",
                ),
                (
                    "badminton, baseball, basketball, cricket, football, hockey, rugby, squash, tennis, "
                    "volleyball",
                    "history, popularity, rules, speed",
                ),
                (
                    "alligators, crocodiles, dolphins, eagles, frogs, owls, seals, sharks, snakes, toads, "
                    "turtles, whales",
                    "behavior, diet, size, speed",
                ),
                (
                    "apples, bananas, cherries, grapes, lemons, melons, oranges, peaches, pears, plums",
                    "color, price, size, taste",
                ),
            )
        ),
        symmetric=True,
    ),
    Intent(
        "get rid of a pest",
        (
            "how do i get rid of {look} {pest} in my {room}?",
            "what drives {look} {pest} out of my {room}?",
            "how can i clear my {room} of {look} {pest}?",
            "how can i make {look} {pest} leave my {room}?",
            "my {room} is full of {look} {pest}, what can i do?",
        ),
        (
            {
                "look": _words("big, black, brown, small, tiny"),
                "pest": _words(
                    "ants, bees, beetles, cockroaches, fleas, flies, gnats, lizards, mice, mosquitoes, "
                    "moths, rats, slugs, snails, spiders, termites, wasps, worms"
                ),
                "room": _words(
                    "apartment, attic, basement, bathroom, bedroom, cellar, garage, garden, greenhouse, "
                    "house, kitchen, office, shed, yard"
                ),
            },
        ),
    ),
    Intent(
        "time of a trip",
        (
            "how long does it take by {vehicle} from {a} to {b}?",
            "how many hours is {b} from {a} by {vehicle}?",
            "how much time do i need to reach {b} from {a} by {vehicle}?",
            "how long is the trip from {a} to {b} by {vehicle}?",
            "if i leave {a} by {vehicle}, how soon will i be in {b}?",
        ),
        ({"vehicle": _words("bike, bus, car, motorcycle, train"), "a": CITIES, "b": CITIES},),
    ),
    Intent(
        "best product for somebody",
        (
            "what is the best {product} for {trait} {people}?",
            "which {product} should {trait} {people} buy?",
            "which {product} would you recommend to {trait} {people}?",
            "for {trait} {people}, what is a good {product}?",
            "{trait} {people} need a {product}, which one is best?",
        ),
        (
            {
                "product": _words(
                    "backpack, bike, blanket, blender, calendar, camera, chair, desk, jacket, lamp, laptop, "
                    "mattress, notebook, pen, phone, raincoat, suitcase, tablet, tent, watch"
                ),
                "trait": _words("busy, lazy, poor, rich, tall, young"),
                "people": _words(
                    "actors, artists, bakers, designers, doctors, drivers, farmers, gardeners, lawyers, "
                    "musicians, nurses, parents, runners, students, teachers, writers"
                ),
            },
        ),
    ),
    Intent(
        "how something works",
        (
            "how do i explain to my {relative} how a {kind} {machine} works?",
            "how would you explain a {kind} {machine} to my {relative}?",
            "how can i help my {relative} understand a {kind} {machine}?",
            "my {relative} asks how a {kind} {machine} works, what do i say?",
            "how do i teach my {relative} how a {kind} {machine} works?",
        ),
        (
            {
                "relative": _words(
                    "brother, cousin, daughter, father, grandfather, grandmother, mother, neighbor, "
                    "nephew, niece, sister, son"
                ),
                "kind": _words("basic, big, modern, simple, small, typical"),
                "machine": _words(
                    "battery, bicycle, camera, clock, compass, computer, dishwasher, fridge, generator, "
                    "helicopter, lighthouse, microscope, microwave, motor, printer, radio, rocket, scanner, "
                    "submarine, telescope, thermometer, toaster, tractor, windmill"
                ),
            },
        ),
    ),
    Intent(
        "cost of something",
        (
            "how much does a {state} {item} cost in {country}?",
            "what is the price of a {state} {item} in {country}?",
            "what do people in {country} pay for a {state} {item}?",
            "how expensive is a {state} {item} in {country}?",
            "in {country}, how much money do i need for a {state} {item}?",
        ),
        (
            {
                "state": _words("basic, decent, good, new, used"),
                "item": _words(
                    "bed, bike, boat, camera, car, desk, guitar, kayak, laptop, motorcycle, phone, piano, "
                    "sofa, tent, tractor, violin"
                ),
                "country": _words(
                    "argentina, australia, austria, brazil, canada, chile, china, denmark, egypt, finland, "
                    "france, germany, greece, india, ireland, italy, japan, kenya, mexico, norway, poland, "
                    "portugal, spain, sweden, turkey, vietnam"
                ),
            },
        ),
    ),
    Intent(
        "safety of an outing",
        (
            "is it safe to {activity} in the {land} in {month}?",
            "can i {activity} in the {land} in {month} without danger?",
            "how dangerous is {activity.ing} in the {land} in {month}?",
            "what are the risks of {activity.ing} in the {land} in {month}?",
            "in {month}, should i be afraid to {activity} in the {land}?",
        ),
        (
            {
                "activity": _words(
                    "camp, cycle, drive, fly a drone, hike, light a fire, ride a horse, run, sleep outside, "
                    "travel alone, walk barefoot"
                ),
                "land": _words(
                    "canyon, countryside, desert, forest, hills, jungle, meadows, mountains, park, valley"
                ),
                "month": MONTHS,
            },
        ),
    ),
    Intent(
        "train a pet",
        (
            "how do i stop my {pet} from {deed.ing} my {state} {things}?",
            "how do i teach my {pet} not to {deed} my {state} {things}?",
            "how can i make my {pet} stop {deed.ing} my {state} {things}?",
            "what do i do when my {pet} {deed.s} my {state} {things}?",
            "my {pet} keeps {deed.ing} my {state} {things}, how do i stop it?",
        ),
        (
            {
                "pet": _words("cat, dog, ferret, goat, kitten, monkey, parrot, puppy"),
                "deed": _words("bite, chew, destroy, eat, hide, lick, scratch, steal"),
                "state": _words("best, favorite, new, old"),
                "things": _words(
                    "blankets, books, cushions, gloves, hats, letters, magazines, papers, pencils, "
                    "pillows, sandals, shoes, slippers, socks, towels, toys"
                ),
            },
        ),
    ),
    Intent(
        "recipe for a meal",
        (
            "what can i cook for {meal} with {a} and {b}?",
            "which {meal} recipe uses {b} and {a}?",
            "how do i turn {a} and {b} into {meal}?",
            "for {meal}, what goes well with {a} and {b}?",
            "i have {b} and {a}, what can i make for {meal}?",
        ),
        (
            {
                "meal": _words("breakfast, brunch, dinner, lunch, supper"),
                **dict.fromkeys(
                    ("a", "b"),
                    _words(
                        "bacon, beans, beef, broccoli, cabbage, carrots, cheese, chicken, corn, eggs, "
                        "garlic, ham, leeks, lentils, mushrooms, noodles, onions, pasta, peas, peppers, "
                        "potatoes, pumpkin, rice, salmon, shrimp, spinach, tofu, tomatoes, tuna, zucchini"
                    ),
                ),
            },
        ),
        symmetric=True,
    ),
)
