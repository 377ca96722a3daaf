"""The list of models and the card of the chosen one, as the panel shows them."""

import re

from SynthGANPanel import environment
from SynthGANPanel.i18n import _
from SynthGANPanel.runs.wording import describeSeconds
from SynthGANPanel.scene import inputChecks

USE_SECTION = "\n## Use\n"
HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)
QUOTE = re.compile(r"^> ", re.MULTILINE)
PAIRS = re.compile(r"^\|\s*\|\s*\|\n\|[ :-]+\|[ :-]+\|\n((?:\|.*\|\n?)+)", re.MULTILINE)
"""A table of two columns without titles."""
PAIR = re.compile(r"^\|\s*(.+?)\s*\|\s*(.*?)\s*\|$", re.MULTILINE)


def catalogueById(entries):
    """The entries by id; of several versions the newest, and one that works before one that does not."""
    byId = {}
    for entry in entries:  # the library lists working ones first, older versions before newer ones
        if entry.error is None or entry.id not in byId:
            byId[entry.id] = entry
    return byId


def defaultModel(models, preferred):
    """The preferred model's id if it is there, else that of the first that works, else ""."""
    working = [modelId for modelId, entry in models.items() if entry.error is None]
    return preferred if preferred in working else next(iter(working), "")


def fill(selector, models, modelId):
    """Show the models in a combo box, the chosen one selected, even if it is none of this machine's."""
    items = {key: label(entry) for key, entry in models.items()}
    if modelId and modelId not in items:
        items[modelId] = _("{model} (not installed)").format(model=modelId)
    present = {selector.itemData(index): selector.itemText(index) for index in range(selector.count)}
    wasBlocked = selector.blockSignals(True)  # only a choice by the user may change the parameter
    if present != items:
        selector.clear()
        for key, text in items.items():
            selector.addItem(text, key)
    selector.currentIndex = list(items).index(modelId) if modelId else -1
    selector.blockSignals(wasBlocked)


def choices(models):
    """What the working models can be filtered by: filter -> list of (text, value); the first takes all."""
    cards = [entry.card for entry in models.values() if entry.card is not None]
    directions = sorted({directionOf(card) for card in cards})
    anatomies = sorted({card.anatomy for card in cards})
    sequences = sorted({name for card in cards for name in card.source.sequences})
    return {
        "direction": [(_("Any direction"), ""), *((text, text) for text in directions)],
        "anatomy": [(_("Any anatomy"), ""), *((text, text) for text in anatomies)],
        "sequence": [(_("Any contrast"), ""), *((text, text) for text in sequences)],
    }


def directionOf(card):
    """From which modality to which, e.g. MR to CT."""
    source = _("nothing") if card.source.modality == inputChecks.NOISE else card.source.modality
    return _("{source} to {target}").format(source=source, target=card.target.modality)


def matching(models, text, direction="", anatomy="", sequence=""):
    """The models by id that hold all words of `text` and pass the filters; refused ones only without words and filters.

    A model that names no contrasts takes any.
    """
    words = text.casefold().split()
    found = {}
    for modelId, entry in models.items():
        card = entry.card
        if card is None:
            passes = not (words or direction or anatomy or sequence)
        else:
            passes = (
                direction in ("", directionOf(card))
                and anatomy in ("", card.anatomy)
                and (not sequence or not card.source.sequences or sequence in card.source.sequences)
                and all(word in _words(card) for word in words)
            )
        if passes:
            found[modelId] = entry
    return found


def _words(card):
    parts = (card.id, card.title, card.description, card.anatomy, card.method.name, card.citation, directionOf(card))
    return " ".join((*parts, *card.source.sequences)).casefold()


def fillFilter(selector, items):
    """Show (text, value) pairs in a combo box and keep what is chosen."""
    present = [(selector.itemText(index), selector.itemData(index)) for index in range(selector.count)]
    if present == items:
        return
    wasBlocked = selector.blockSignals(True)
    chosen = selector.currentData
    selector.clear()
    for text, value in items:
        selector.addItem(text, value)
    values = [value for _text, value in items]
    selector.currentIndex = values.index(chosen) if chosen in values else 0
    selector.blockSignals(wasBlocked)


def timeHere(entry):
    """How long the model's newest run on this computer took, and for how much; "" if it never ran here."""
    if entry is None or entry.card is None:
        return ""
    environment.useLibrary()
    from SynthGANLib.inference.estimate import runs_of

    runs = runs_of(entry.card)
    if not runs:
        return ""
    newest = runs[-1]
    voxels = " x ".join(str(extent) for extent in reversed(newest.source))  # (z, y, x) in Slicer's order i, j, k
    return _("On this computer: {time} for {voxels} voxels on {device} ({date}).").format(
        time=describeSeconds(newest.seconds), voxels=voxels, device=newest.device, date=newest.date
    )


def label(entry):
    """One line for the list: what the model does, and its id."""
    if entry.error is not None:
        return _("{model} (refused)").format(model=entry.id)
    return _("{title} ({model})").format(title=entry.title, model=entry.id)


def cardMarkdown(entry):
    """The model's card as Markdown for a narrow text box; why a folder is refused if it is."""
    if entry is None:
        return ""
    if entry.error is not None:
        return entry.error
    environment.useLibrary()
    from SynthGANLib.model.card_text import readme_of

    # The card is written as a page; a panel is narrower: smaller headings, pairs of name and value as lines.
    # The command line, its last section, is not what a reader of the panel needs.
    text = readme_of(entry.card).split(USE_SECTION)[0]
    text = QUOTE.sub("", HEADING.sub("#### ", text))
    return PAIRS.sub(lambda table: PAIR.sub(r"- \1: \2", table.group(1)), text)


def obstacle(models, modelId):
    """Why the chosen model cannot be used, "" if it can."""
    if not modelId:
        return _("Choose a model.") if models else _("No model is installed: reinstall the SynthGAN extension.")
    entry = models.get(modelId)
    if entry is None:
        return _("The model '{model}' is not installed: choose another or install it.").format(model=modelId)
    return entry.error or ""
