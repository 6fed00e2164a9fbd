"""Templates and values of the made-up sentences; in each entry, the frequent ones come first."""

from __future__ import annotations

from itertools import product

TEMPLATES: dict[str, tuple[str, ...]] = {
    "play_music": (
        "play {song}",
        "play some {genre} music",
        "give me {song} on {service}",
        "put on {song} by {artist}",
        "i want to hear {artist}",
        "start the playlist {playlist}",
        "can you play something by {artist} at {time}",
        "what about a bit of {genre} in the {room}",
    ),
    "add_to_playlist": (
        "add {song} to my {playlist} playlist",
        "add this song to {playlist}",
        "put {song} on {playlist}",
        "save {song} by {artist} in {playlist}",
        "i want {artist} in my list {playlist}",
        "{playlist} needs more {genre} so add {artist}",
        "include the tune {song} with {playlist}",
    ),
    "get_weather": (
        "what is the weather in {city}",
        "weather in {city} {day}",
        "will it {weather} in {city} {day}",
        "do i need a coat in {city} at {time}",
        "is there {weather} coming to {city}",
        "how warm does {city} get {day}",
        "tell me whether {day} brings {weather}",
        "should i expect {weather} on my trip from {city} to {city}",
    ),
    "book_restaurant": (
        "book a table for {number} {day}",
        "find {cuisine} food in {city}",
        "reserve a place at {restaurant} for {number}",
        "{number} of us want a {cuisine} restaurant {day} at {time}",
        "get me into {restaurant} in {city}",
        "is {restaurant} free for {number} people {day}",
        "i am hungry for {cuisine} near {city}",
        "dinner with {person} at {restaurant} {day}",
    ),
    "book_flight": (
        "book a flight to {city}",
        "flights from {city} to {city}",
        "i need to be in {city} {day} leaving {city}",
        "get {number} seats from {city} to {city} {day}",
        "what leaves {city} for {city} after {time}",
        "fly {person} out of {city} {day}",
        "cheapest way to reach {city} by plane before {time}",
    ),
    "set_alarm": (
        "wake me up at {time}",
        "set an alarm for {time} {day}",
        "i have to be up by {time} {day}",
        "ring at {time} and play {song}",
        "make sure i am awake before {time}",
        "alarm {day} {time} in the {room}",
        "do not let me sleep past {time}",
    ),
    "send_message": (
        "send a message to {person}",
        "text {person} that i am late",
        "tell {person} the alarm is set for {time}",
        "let {person} know i booked {restaurant}",
        "write to {person} about the flight to {city}",
        "ask {person} whether {song} is on {playlist}",
        "message {person} to wake me up at {time}",
        "say to {person} that it will {weather} {day}",
    ),
    "control_device": (
        "turn on the {device}",
        "turn off the {device} in the {room}",
        "make the {room} {colour}",
        "i want the {device} off by {time}",
        "switch everything in the {room} off {day}",
        "it is too dark in the {room}",
        "set the {device} to {number}",
        "dim the {device} until {time}",
    ),
}

_ADJECTIVES = ["blue", "quiet", "golden", "wild", "early", "electric", "little", "green"]
_NOUNS = ["river", "morning", "paris", "train", "rain", "table", "light", "winter"]
_FIRST_NAMES = ["anna", "paris", "omar", "jordan", "carlos", "ivy"]
_LAST_NAMES = ["stone", "rivers", "london", "green", "young"]


def _phrases(head: str, tail: str = "", *patterns: tuple[str, list[str], list[str]]) -> tuple[str, ...]:
    """Return the head's values, then the tail's: listed ones, and all fillings of each pattern."""
    filled = (pattern.format(a, b) for pattern, first, second in patterns for a, b in product(first, second) if a != b)
    return tuple(phrase.strip() for phrase in (*head.split(","), *tail.split(","), *filled) if phrase)


VALUES: dict[str, tuple[str, ...]] = {
    "artist": _phrases(
        "adele,queen,prince",
        "boston,paris,london grammar",
        ("the {} {}", _ADJECTIVES[:4], _NOUNS[:4]),
        ("{} {}", _FIRST_NAMES[:3], _LAST_NAMES),
    ),
    "song": _phrases(
        "yesterday,hello,thriller",
        "noon,tomorrow,eight days,rock",
        ("{} {}", _ADJECTIVES, _NOUNS),
        ("{} of the {}", _NOUNS[:4], _NOUNS[4:]),
    ),
    "playlist": _phrases(
        "party,workout,favourites",
        "jazz,kitchen,monday morning,road trip,dinner at eight",
        ("{} {} mix", _ADJECTIVES[4:], _NOUNS[:4]),
        ("songs for {} {}", _ADJECTIVES[:4], _NOUNS[4:]),
    ),
    "city": _phrases(
        "boston,paris,london",
        "denver,lima,oslo,cairo,jordan,new york,san jose,las vegas,green river,winter park,little rock,young",
    ),
    "person": _phrases("mom,john,sara", "dad,my boss", ("{} {}", _FIRST_NAMES, _LAST_NAMES)),
    "restaurant": _phrases(
        "luigi,nobu,noma",
        "paris,eleven,red lamp,four seasons",
        ("the {} {}", _ADJECTIVES[4:], _NOUNS[4:]),
    ),
    "time": _phrases(
        "seven,eight,noon",
        "midnight,early morning,dinner,half past six",
        ("{} {}", ["one", "two", "four", "ten", "eleven"], ["am", "pm", "in the morning", "thirty"]),
    ),
    "day": _phrases("today,tomorrow,monday", "tonight,this weekend,next friday,on my birthday,in two days,in winter"),
    "number": _phrases("two,four,six", "one,ten,eleven,half a dozen"),
    "cuisine": _phrases("italian,thai,indian", "early american,green,north african,paris street"),
    "genre": _phrases("jazz,rock,pop", "soul,golden age swing,electric blues,winter"),
    "service": _phrases("spotify,deezer,tidal", "little radio"),
    "weather": _phrases("rain,snow,storm", "freeze,be windy,get wild"),
    "room": _phrases("kitchen,bedroom,hall", "dinner table,blue room,study"),
    "device": _phrases("light,lamp,heater", "green light,train set,radio,kitchen fan"),
    "colour": _phrases("red,blue,green", "silver,golden,warm rain"),
}
