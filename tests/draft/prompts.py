"""Questions about a text, for ``tests.compare_draft``: edits of a text, and summaries.

The texts are of the kinds that people paste: prose, letters, code, data, settings, minutes. An edit
asks for its text again with something small changed; a summary for what is in it, a few of them in
its own words.
"""

from __future__ import annotations

STORY = (
    "The whale sings in the sea at night. It was a quiet night, and the captain of the ship stood "
    "on the deck and listened to the song for hours. Nobody knew where it came from, but everybody "
    "on board was sure that it was a whale. In the morning the song had ended, and the sea was as "
    "calm as before."
)
CODE = (
    "def area(width, height):\n    if width < 0 or height < 0:\n        raise ValueError('-')\n"
    "    return width * height\n\ndef volume(width, height, depth):\n    if depth < 0:\n"
    "        raise ValueError('negative')\n    return area(width, height) * depth\n"
)
DATA = (
    '[{"name": "Ada", "born": 1815, "city": "London"}, {"name": "Emmy", "born": 1882, "city": '
    '"Erlangen"}, {"name": "Sofia", "born": 1850, "city": "Moscow"}]'
)
NEWS = (
    "The city council decided on Tuesday to close the old harbour bridge for repairs. The work "
    "will begin in March and take about nine months. Ferries will cross the river every ten "
    "minutes between six in the morning and midnight. The mayor said that the bridge, which was "
    "built in 1931, would not have lasted another winter."
)
LETTER = (
    "Dear Mr Hill,\n\nthank you for your letter of 3 May. We are sorry that the lamp arrived with "
    "a broken switch. A new one was sent to you this morning and should be with you by Friday. You "
    "need not send the old one back.\n\nKind regards,\nAnna Weber"
)
SETTINGS = (
    "[server]\nhost = localhost\nport = 8080\ntimeout = 30\n\n[database]\nhost = localhost\n"
    "port = 5432\nname = orders\n\n[log]\nlevel = info\nfile = /var/log/orders.log\n"
)
MINUTES = (
    "Present: Kim, Lee and Ortiz. Kim reported that the new shop opened on 2 June and had 400 "
    "visitors on the first day. Lee asked for two more people at the counter. Ortiz said that the "
    "budget allows for one. It was agreed to hire one person and to talk about a second one in "
    "September. The next meeting is on 7 July."
)
RECIPE = (
    "Mix 300 g of flour with a spoon of salt. Add 200 ml of warm water and a spoon of oil, and "
    "knead the dough for ten minutes. Let it rest for an hour under a towel. Roll it out, cut it "
    "into eight pieces, and bake them in a hot pan, two minutes on each side."
)

EDITS = (
    f"Copy this text and write 'dolphin' instead of 'whale':\n\n{STORY}",
    f"Correct the spelling of this text and give the whole text back:\n\n{STORY}",
    f"Rename area to surface in this code and write all of it:\n\n{CODE}",
    f"Add a key 'known' with the value true to each of these, and write all of it:\n\n{DATA}",
    f"Write this report again with 'April' instead of 'March':\n\n{NEWS}",
    f"Repeat this report and change nothing but the day, which was Monday:\n\n{NEWS}",
    f"Write this letter again, to Mrs Stone instead of Mr Hill:\n\n{LETTER}",
    f"Correct the grammar of this letter and give all of it back:\n\n{LETTER}",
    f"Change the port of the server to 9090 and write the whole file:\n\n{SETTINGS}",
    f"Write this file again with 'debug' as the level of the log:\n\n{SETTINGS}",
    f"Copy these minutes and write 'Park' instead of 'Lee':\n\n{MINUTES}",
    f"Copy this recipe and write 'butter' instead of 'oil':\n\n{RECIPE}",
)
SUMMARIES = (
    f"Quote the two most important sentences of this text:\n\n{STORY}",
    f"Summarise this text in its own words:\n\n{STORY}",
    f"Summarise this report in two sentences:\n\n{NEWS}",
    f"List the facts of this report:\n\n{NEWS}",
    f"Summarise this letter:\n\n{LETTER}",
    f"What does this letter say? Quote it:\n\n{LETTER}",
    f"Summarise these minutes:\n\n{MINUTES}",
    f"List what was decided, in the words of these minutes:\n\n{MINUTES}",
    f"Summarise this recipe:\n\n{RECIPE}",
    f"List the steps of this recipe:\n\n{RECIPE}",
    f"Explain what this code does, and quote it:\n\n{CODE}",
    f"List the settings in this file:\n\n{SETTINGS}",
)
