"""Labelled data for the graded models, made by scripts: capitals, sentences with questions about them, lines of print upright and upside down,
speech by a synthesiser and noise. Three validators get three different sets of each. No person labelled any of it, and a grade on it says
no more than that.
"""

import ctypes
import json
import wave
from pathlib import Path

import espeakng_loader
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAPITALS = dict(
    line.split("=")
    for line in """France=Paris|Italy=Rome|Japan=Tokyo|Spain=Madrid|Germany=Berlin|Russia=Moscow|China=Beijing|Egypt=Cairo|Greece=Athens|Cuba=Havana
Poland=Warsaw|Austria=Vienna|Portugal=Lisbon|Ireland=Dublin|Norway=Oslo|Sweden=Stockholm|Finland=Helsinki|Denmark=Copenhagen|Hungary=Budapest
Turkey=Ankara|Iran=Tehran|Iraq=Baghdad|Peru=Lima|Chile=Santiago|Canada=Ottawa|Kenya=Nairobi|Thailand=Bangkok|Vietnam=Hanoi|India=New Delhi
Belgium=Brussels|Romania=Bucharest|Bulgaria=Sofia|Syria=Damascus|Lebanon=Beirut|Ukraine=Kyiv|Argentina=Buenos Aires|Nepal=Kathmandu""".replace(
        "\n", "|"
    ).split("|")
)
SUBJECTS = "cat dog horse teacher engineer farmer sailor painter baker pilot nurse judge tailor gardener fisherman".split()
DEEDS = [
    ("is sleeping on a warm roof", "Who rests on top of the house?"),
    ("bought three red apples", "Who got some fruit?"),
    ("fell into the cold river", "Who dropped into the water?"),
    ("plays the violin at night", "Who makes music after dark?"),
    ("lost a key in the forest", "Who is missing something among the trees?"),
]
WORDS = "river stone market winter engine letter garden silver bridge candle window planet forest mirror copper harbor".split()


def texts(path: Path, nth: int):
    """A country, its capital: the rest of a list, which the model is to go on with."""
    names = sorted(CAPITALS)
    lines = []
    for i, name in enumerate(names):
        if i % 3 == nth:
            continue
        shown = [names[(i + 5 * k + 7 + nth) % len(names)] for k in (1, 2, 3)]
        prompt = "".join(f"{c}: {CAPITALS[c]}\n" for c in shown if c != name) + f"{name}:"
        lines.append(json.dumps({"prompt": prompt, "expected": CAPITALS[name], "length": "long" if len(name) > 6 else "short"}))
    path.write_text("\n".join(lines) + "\n")


def pairs(path: Path, nth: int):
    """A question, and the sentence that answers it."""
    lines = []
    for i, subject in enumerate(SUBJECTS):
        for j, (deed, question) in enumerate(DEEDS):
            if (i + j) % 3 != nth:
                query = f"{question} Is it the {subject}?"
                lines.append(json.dumps({"query": query, "relevant": f"The {subject} {deed}."}))
    path.write_text("\n".join(lines) + "\n")


def pictures(folder: Path, nth: int, each: int = 40):
    """Lines of print, upright and turned by half a turn."""
    rng = np.random.default_rng(nth)
    for kind in ("upright", "turned"):
        (folder / kind).mkdir(parents=True)
    for i in range(2 * each):
        text = " ".join(rng.choice(WORDS, 2))
        grey = int(rng.integers(0, 90))
        line = Image.new("RGB", (190, 48), (255 - grey // 3,) * 3)
        ImageDraw.Draw(line).text((6, 8), text, font=ImageFont.load_default(24), fill=(grey,) * 3)
        turned = i % 2
        line.rotate(180 * turned).save(folder / ("upright", "turned")[turned] / f"{i}.png")


class Speaker:
    """eSpeak NG, out of a PyPI package."""

    def __init__(self):
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self.library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
        self.parts = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.take = kind(self.took)
        self.library.espeak_SetSynthCallback(self.take)

    def took(self, samples, count, _):
        if samples and count > 0:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str) -> np.ndarray:
        self.parts.clear()
        self.library.espeak_SetVoiceByName(voice.encode())
        self.library.espeak_Synth(text.encode(), len(text) + 1, 0, 0, 0, 1, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.parts)


def sounds(folder: Path, nth: int, each: int = 30):
    """Speech, and noise of different loudness; two parts of each file are labelled."""
    folder.mkdir(parents=True)
    rng, speaker, lines = np.random.default_rng(nth), Speaker(), ["file,start,end,label,loud"]
    for i in range(each):
        said = speaker.say(" ".join(rng.choice(WORDS, 8)), ("en", "en+f3", "de", "fr")[i % 4]).astype(float)
        noise = rng.normal(size=2 * speaker.rate) * (20, 200, 1000)[i % 3]
        samples = np.concatenate([said, noise]).clip(-32768, 32767).astype("<i2")
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, speaker.rate, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        end, loud = len(said) / speaker.rate, ("quiet", "some", "loud")[i % 3]
        lines.append(f"{i}.wav,0.1,{end - 0.4:.3f},speech,{loud}")
        lines.append(f"{i}.wav,{end + 0.4:.3f},{end + 2:.3f},silence,{loud}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
