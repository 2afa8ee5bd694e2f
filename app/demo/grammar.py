"""A small grammar of our own: a hotel's guests ask, and a concierge answers warmly, curtly, at length, past the
question, or rudely. What is relevant is decided by the topic of the question, and by nothing else.
"""

import random
from dataclasses import dataclass

STYLES = ("warm", "curt", "rambling", "off_topic", "rude")


@dataclass(frozen=True)
class Topic:
    """What guests ask about: `word` names it in every question and answer; facts answer it."""

    name: str
    word: str
    questions: tuple[str, ...]
    facts: tuple[str, ...]
    short: str


@dataclass(frozen=True)
class DemoPrompt:
    """A guest's question. `messages` is what the model sees."""

    messages: list[dict[str, str]]
    topic: str
    external_id: str


def _topic(name: str, word: str, asks: str, facts: str, short: str) -> Topic:
    return Topic(name, word, tuple(asks.split("|")), tuple(facts.split("|")), short)


TOPICS = (
    _topic("breakfast", "breakfast", "what time is breakfast?|where is breakfast served?|when does breakfast end?|is breakfast included?",
           "Breakfast is served from seven to ten in the garden room.|You will find breakfast in the garden room until ten.",
           "Breakfast, seven to ten."),
    _topic("pool", "pool", "is the pool open today?|where is the pool?|can the children use the pool?|how warm is the pool?",
           "The pool is on the top floor and open until nine.|The pool is open to all guests until nine.",
           "Pool, top floor."),
    _topic("parking", "parking", "is there parking nearby?|how much is parking?|where is the parking?|do I have to book parking?",
           "Parking is free and right behind the house.|There is free parking behind the house.",
           "Parking, behind the house."),
    _topic("taxi", "taxi", "can you call a taxi?|how long does a taxi take?|what does a taxi cost?|where does the taxi stop?",
           "A taxi can be here in five minutes.|The taxi waits right at the front door.",
           "Taxi, five minutes."),
    _topic("towels", "towels", "may I have more towels?|where are the towels?|can someone bring towels?|do I bring towels of my own?",
           "Fresh towels will be at your door in a few minutes.|We bring fresh towels to your room right away.",
           "Towels, in the closet."),
    _topic("dinner", "dinner", "where can I have dinner?|is dinner still served?|can I book dinner?|what is for dinner?",
           "Dinner is served until ten on the terrace.|A table for dinner on the terrace is ready at eight.",
           "Dinner, until ten."),
    _topic("luggage", "luggage", "can I leave my luggage?|where do I put my luggage?|can someone carry my luggage?|is my luggage safe here?",
           "We keep your luggage safe at the front desk all day.|Your luggage is safe with us at the front desk.",
           "Luggage, front desk."),
    _topic("beach", "beach", "how far is the beach?|is the beach nice?|which way is the beach?|is the beach busy?",
           "The beach is ten minutes down the hill, and the water is warm.|Follow the path down the hill to the beach.",
           "Beach, down the hill."),
)  # fmt: skip
BY_NAME = {topic.name: topic for topic in TOPICS}

_OPENERS = (
    "Hello, ",
    "Good morning, ",
    "Excuse me, ",
    "Hi there, ",
    "Good evening, ",
    "Sorry to bother you, ",
    "Please tell me, ",
)
_CLOSERS = ("", " Thank you.", " We are in a hurry.", " It is our first visit.")

WARM_OPENINGS = ("Of course!", "With pleasure!", "Gladly!", "What a lovely question!", "Welcome, dear guest!")
WARM_CLOSINGS = (
    "Enjoy your stay!",
    "Have a wonderful day!",
    "I am happy to help you.",
    "It is a joy to have you here.",
)
_RAMBLE = (
    "Now, as I always say, every house has its own story to tell.",
    "My cousin once asked the very same thing many years ago.",
    "There are, as you may know, many ways to look at this.",
    "Before I forget, the weather has been quite strange this week.",
    "And then again, one could also say a few other things about it.",
    "The old owner of the house used to speak about it for hours.",
)
RUDE_LINES = (
    "That is not my problem.",
    "Can you not read the sign?",
    "Stop asking silly questions.",
    "Figure it out yourself.",
    "I really do not care.",
)


def all_prompts() -> list[tuple[str, str]]:
    """Every (topic, question) that the grammar can ask, in a fixed order."""
    return [
        (topic.name, opener + question + closer)
        for topic in TOPICS
        for question in topic.questions
        for opener in _OPENERS
        for closer in _CLOSERS
    ]


def make_prompts(n: int, *, seed: int, start: int = 0) -> list[DemoPrompt]:
    """`n` distinct prompts from place `start` of one shuffled order, so that ranges do not overlap.

    Raises:
        ValueError: the grammar has not that many.
    """
    order = all_prompts()
    if start + n > len(order):
        raise ValueError(f"The demo has {len(order)} prompts; {start + n} were asked for.")
    random.Random(seed).shuffle(order)
    return [
        DemoPrompt([{"role": "user", "content": text}], topic, f"demo-{start + index}")
        for index, (topic, text) in enumerate(order[start : start + n])
    ]


def write_response(prompt: DemoPrompt, style: str, rng: random.Random) -> str:
    """What a concierge of this style answers."""
    topic = BY_NAME[prompt.topic]
    fact = rng.choice(topic.facts)
    if style == "warm":
        return f"{rng.choice(WARM_OPENINGS)} {fact} {rng.choice(WARM_CLOSINGS)}"
    if style == "curt":
        return topic.short if rng.random() < 0.5 else fact
    if style == "rambling":
        return " ".join([*rng.sample(_RAMBLE, 2), fact, rng.choice(_RAMBLE)])
    if style == "rude":
        return f"{rng.choice(RUDE_LINES)} {topic.short if rng.random() < 0.5 else rng.choice(RUDE_LINES)}"
    other = rng.choice([candidate for candidate in TOPICS if candidate is not topic])
    return f"{rng.choice(WARM_OPENINGS)} {rng.choice(other.facts)}" if rng.random() < 0.5 else rng.choice(other.facts)


def demonstrations(n: int, *, seed: int) -> list[tuple[DemoPrompt, str]]:
    """Prompts with answers of all styles mixed, so that the first policy shows all five and can be moved."""
    rng = random.Random(seed)
    topics, texts = zip(*all_prompts(), strict=True)
    made = []
    for index in range(n):
        place = rng.randrange(len(texts))
        prompt = DemoPrompt([{"role": "user", "content": texts[place]}], topics[place], f"demonstration-{index}")
        made.append((prompt, write_response(prompt, rng.choice(STYLES), rng)))
    return made


def shipped_responses(prompt: DemoPrompt, k: int, rng: random.Random) -> list[str]:
    """`k` different answers of varied styles, for raters to rank before anything was trained."""
    answers: list[str] = []
    styles = rng.sample(STYLES, len(STYLES))
    while len(answers) < k:
        answer = write_response(prompt, styles[len(answers) % len(styles)], rng)
        if answer not in answers:
            answers.append(answer)
    return answers


def all_sentences() -> list[str]:
    """Every sentence that an answer may hold: what counts as well-formed in this world."""
    facts = [sentence for topic in TOPICS for sentence in (*topic.facts, topic.short)]
    return [*facts, *WARM_OPENINGS, *WARM_CLOSINGS, *_RAMBLE, *RUDE_LINES]
