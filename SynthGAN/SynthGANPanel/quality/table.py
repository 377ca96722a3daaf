"""The table of numbers, and its summary in words for the panel."""

import datetime
import json
import math

import vtk

from SynthGANPanel.i18n import _
from SynthGANPanel.quality import nodes as qualityNodes
from SynthGANPanel.scene import nodes

TABLE = "table"
COLUMNS = ("Metric", "Value", "Unit", "Tissue", "Mask", "Voxels", "Protocol", "Kind", "How")
ACCURACY, NO_ACCURACY, COUNT = "accuracy", "not a measure of accuracy", "count"


def fill(made, found, names, record):
    """Write what was measured into the table of a result.

    :param made: the result's QualityNodes. found: the worker's closing event
    :param names: of images and mask. record: attributes to store, without prefix
    :return: the table node
    """
    table, _isNew = made.node(TABLE, "vtkMRMLTableNode", _("{result} quality").format(result=made.resultNode.GetName()))
    wasModifying = table.StartModify()
    try:
        setColumns(table, dict(zip(COLUMNS, zip(*_rows(found, names), strict=True), strict=True)))
        table.SetUseColumnTitleAsColumnHeader(True)
        table.SetLocked(True)
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for name, value in {**record, "Date": date}.items():
            table.SetAttribute(nodes.ATTRIBUTE_PREFIX + name, value)
    finally:
        table.EndModify(wasModifying)
    return table


def setColumns(table, columns):
    """Replace a table's columns: texts, whole numbers or numbers, by the type of the first entry."""
    table.RemoveAllColumns()
    kinds = {str: vtk.vtkStringArray, int: vtk.vtkLongLongArray, float: vtk.vtkDoubleArray}
    for name, values in columns.items():
        column = kinds[type(values[0])]()
        column.SetName(name)
        column.SetNumberOfValues(len(values))
        for index, value in enumerate(values):
            column.SetValue(index, value)
        table.AddColumn(column)


def tableOf(resultNode):
    """The table that was measured for a result, None if there is none."""
    return qualityNodes.find(resultNode, TABLE)


def rowsOf(table):
    """The rows of such a table, each a dictionary by column."""
    content = table.GetTable()
    columns = [content.GetColumnByName(name) for name in COLUMNS]
    if None in columns:
        return []
    return [
        {name: column.GetValue(index) for name, column in zip(COLUMNS, columns, strict=True)}
        for index in range(content.GetNumberOfRows())
    ]


def summary(table):
    """The summary of a table, in Markdown for a narrow panel."""
    rows = rowsOf(table)
    accuracy = [row for row in rows if row["Kind"] == ACCURACY]
    parts = []
    if accuracy:
        parts += [_accuracyText(accuracy), _protocolText(table)]
    else:
        parts.append(_("**No reference was given, so nothing here measures accuracy.**"))
    others = [row for row in rows if row["Kind"] == NO_ACCURACY]
    title = _("Not a measure of accuracy:")
    parts.append("\n".join([title, "", *(f"- {_plain(row['Metric'])}: {_number(row)}" for row in others)]))
    remarks = json.loads(table.GetAttribute(nodes.ATTRIBUTE_PREFIX + "Remarks") or "[]")
    parts += [_plain(remark) for remark in remarks]
    return "\n\n".join(parts)


def _accuracyText(rows):
    """Measures by tissue as a matrix, the others as a list beneath it."""
    tissues = list(dict.fromkeys(row["Tissue"] for row in rows))
    cells = {(row["Tissue"], row["Metric"]): _number(row) for row in rows}
    perTissue = [name for name in ("MAE", "ME", "PSNR") if (tissues[0], name) in cells]
    lines = ["| | " + " | ".join(perTissue) + " |", "|---|" + "---|" * len(perTissue)]
    for tissue in tissues:
        lines.append(f"| {tissue} | " + " | ".join(cells.get((tissue, name), "") for name in perTissue) + " |")
    others = [row for row in rows if row["Metric"] not in perTissue]
    return "\n".join([*lines, "", *(f"- {row['Metric']}: {_number(row)}" for row in others)])


def _protocolText(table):
    attribute = {
        name: _plain(table.GetAttribute(nodes.ATTRIBUTE_PREFIX + name) or "")
        for name in ("Protocol", "MaskUsed", "VoxelsCompared", "VoxelsOutsideReference", "ReferenceName")
    }
    text = _("Compared with {ReferenceName} by the protocol {Protocol} in {VoxelsCompared} voxels (mask: {MaskUsed}).")
    if attribute["VoxelsOutsideReference"] != "0":
        text += " " + _("The reference has no value at {VoxelsOutsideReference} voxels of the result.")
    return text.format(**attribute)


def _number(row):
    value, unit = row["Value"], row["Unit"]
    if math.isnan(value):
        return _("undefined")
    digits = ".1f" if unit in ("HU", "dB", "%") else ".3g" if abs(value) >= 1 and unit == "" else ".3f"
    text = f"{value:{digits}}"
    if unit == "%" and 0 < value < 0.05:
        text = "<0.1"
    return f"{text} {unit}".rstrip()


def _plain(text):
    """The text with what Markdown would take for marks of its own escaped."""
    return "".join("\\" + letter if letter in "\\`*_{}[]<>#|~" else letter for letter in text)


def _rows(found, names):
    rows = []
    for row in found["rows"]:
        rows.append(
            (
                row["name"],
                rounded(float(row["value"])),
                row["unit"],
                row["region"],
                names.get("mask", row["mask"]) if row["mask"] == "given" else row["mask"],
                int(row["voxels"]),
                row["protocol"],
                ACCURACY if row["accuracy"] else NO_ACCURACY,
                row["how"],
            )
        )
    mask = names.get("mask", found["mask"])
    counts = [("Voxels measured", found["compared"], _("where all images have values"))]
    if found["protocol"]:
        how = _("voxels of the result where the reference has no value; interpolation of the reference: {name}")
        counts.append(("Voxels outside the reference", found["excluded"], how.format(name=found["interpolation"])))
    for name, count, how in counts:
        whole = "whole volume" if name == "Voxels outside the reference" else mask
        rows.append((name, float(count), "", "all", whole, int(count), found["protocol"], COUNT, how))
    return rows


def rounded(value):
    """Six significant digits, which is what a table shows without being cut off."""
    return float(f"{value:.6g}")
