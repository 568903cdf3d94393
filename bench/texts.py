"""Prompts of two kinds, in SmolLM2's own format: answers in prose, and answers that say again what is in the prompt.

The second kind begins the answer: a model of 135 million parameters does as it is told only when it is under way.
"""

from __future__ import annotations

_PROSE = (
    "Tell a story about a lighthouse keeper who finds a letter.",
    "Explain to a child why the sky is blue.",
    "What should somebody think of who moves to another town?",
    "Describe a walk through a forest in autumn.",
    "Why do people keep dogs?",
    "How does bread become soft? Explain it in two paragraphs.",
    "Write a letter to a friend whom you have not seen for years.",
    "What is the difference between a lake and a sea?",
    "Give your opinion on reading before going to sleep.",
    "How did people tell the time before there were clocks?",
    "Describe the kitchen of an old farm house.",
    "What makes a good teacher?",
)

_CODE = (
    (
        "Rename `width` to `w`",
        """def area(width, height):
    return width * height


def perimeter(width, height):
    return 2 * (width + height)


def volume(width, height, depth):
    return width * height * depth


def surface(width, height, depth):
    return 2 * (width * height + width * depth + height * depth)
""",
    ),
    (
        "Change the default of `limit` to 20",
        """class Basket:
    def __init__(self, owner, limit=10):
        self.owner = owner
        self.limit = limit
        self.items = []

    def add(self, item):
        if len(self.items) >= self.limit:
            raise ValueError("the basket is full")
        self.items.append(item)

    def total(self):
        return sum(item.price for item in self.items)
""",
    ),
    (
        "Replace `print` by `log.info`",
        """def main(folder):
    names = sorted(os.listdir(folder))
    print("reading", len(names), "files")
    for name in names:
        path = os.path.join(folder, name)
        with open(path) as file:
            lines = file.readlines()
        print(name, "has", len(lines), "lines")
    print("done")
""",
    ),
    (
        "Add a column `city` at the end",
        """CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    street TEXT,
    postal_code TEXT,
    country TEXT DEFAULT 'NL',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
""",
    ),
    (
        "Set the port to 9000",
        """{
  "name": "weather",
  "version": "1.4.0",
  "server": {
    "host": "127.0.0.1",
    "port": 8080,
    "timeout": 30
  },
  "stations": ["harbour", "airport", "city hall"],
  "units": {"temperature": "celsius", "pressure": "hectopascal"},
  "log": {"level": "info", "file": "weather.log"}
}
""",
    ),
    (
        "Make the function return early when the list is empty",
        """function average(values) {
  let sum = 0;
  for (const value of values) {
    sum += value;
  }
  return sum / values.length;
}

function spread(values) {
  const mean = average(values);
  let sum = 0;
  for (const value of values) {
    sum += (value - mean) * (value - mean);
  }
  return Math.sqrt(sum / values.length);
}
""",
    ),
)

_DOCUMENTS = (
    """Minutes of the meeting of the garden club, 4 May. Present: nine members. The treasurer reported that 212
euros are left from last year. It was decided to buy two rain barrels and a ladder. The gate will be painted on
Saturday by those who have time. The next meeting takes place on 1 June at seven o'clock in the school.""",
    """To make the soup, cut three onions and fry them slowly in butter until they are brown. Add a litre of broth,
two potatoes in small pieces and a spoon of thyme. Let it cook for half an hour with the lid on. Before serving,
stir in some cream and taste whether there is enough salt. It is better still on the second day.""",
    """The tenant shall keep the rooms clean and in good order. Repairs of more than one hundred euros are paid by
the owner, smaller ones by the tenant. Pets are allowed if the neighbours agree. The contract may be ended by either
side at the end of a month, by a letter that has arrived three months before.""",
    """Version 2.3 brings a faster start, a new page with statistics, and a setting for the size of the text. The
export to spreadsheets no longer forgets the last row. Dates are shown in the order of the user's country. Who still
uses version 1 has to convert the database first, which takes some minutes and can not be undone.""",
    """The ship left the harbour at dawn with forty sacks of mail and nineteen passengers. In the afternoon the wind
turned to the north and the captain ordered the sails to be taken in. For three days nobody saw the sun. On the
fourth morning a boy in the mast called that there was land, and everybody came on deck to look.""",
    """Dear neighbours, on Friday and Saturday the water will be turned off between nine and twelve, because the old
pipes under the street are replaced. Please fill a bucket before. The work will be loud, and cars can not be parked
in front of the houses. If it rains heavily, it will take place one week later. Thank you for your patience.""",
)


def _chat(question: str, begun: str = "") -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{begun}"


def _edit(wish: str, code: str) -> str:
    return _chat(f"```\n{code}```\n\n{wish} and show the whole file again.", f"```\n{code.splitlines()[0]}\n")


def _quote(document: str) -> str:
    words = document.split()
    return _chat(f"{' '.join(words)}\n\nRepeat this text word for word.", " ".join(words[:4]))


PROSE = tuple(map(_chat, _PROSE))
REPEATED = (*(_edit(wish, code) for wish, code in _CODE), *map(_quote, _DOCUMENTS))
