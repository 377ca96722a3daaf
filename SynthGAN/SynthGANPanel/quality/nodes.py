"""The nodes that hold what was measured of one result: made once, filled again by the next measurement."""

import slicer

from SynthGANPanel.i18n import _
from SynthGANPanel.scene import nodes

KIND = nodes.ATTRIBUTE_PREFIX + "Quality"
OWN_ID = nodes.ATTRIBUTE_PREFIX + "QualityNodeID"
"""The node's own id. A copy that the user made carries the id of the original, which distinguishes the two."""
RESULT_ROLE = "synthganMeasuredResult"


class QualityNodes:
    """A context in which the nodes of one result are made or found again.

    What the block did not ask for, but an earlier measurement made, is removed at its end; if the block fails, what
    it added is removed. Nodes that the user made, copies of ours included, are never touched.
    """

    def __init__(self, resultNode):
        self.resultNode = resultNode
        self._scene = resultNode.GetScene()
        self._asked = set()
        self._added = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            for node in self._added:
                self._scene.RemoveNode(node)
            return
        for node in list(allOf(self.resultNode)):
            if node.GetAttribute(KIND) not in self._asked:
                self._scene.RemoveNode(node)
        self._place()

    def node(self, kind, className, name):
        """The node of a kind; a new one is given the name.

        :return: the node, and whether it is new
        """
        self._asked.add(kind)
        for node in allOf(self.resultNode):
            if node.GetAttribute(KIND) == kind:
                return node, False
        node = self._scene.AddNewNodeByClass(className, nodes.freeName(self._scene, name))
        self._added.append(node)
        node.SetAttribute(KIND, kind)
        node.SetAttribute(OWN_ID, node.GetID())
        node.SetNodeReferenceID(RESULT_ROLE, self.resultNode.GetID())
        return node, True

    def _place(self):
        """New nodes into a folder right beside the result; what the user moved stays where it is."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)
        result = hierarchy.GetItemByDataNode(self.resultNode) if hierarchy is not None else 0
        if not result or not self._added:
            return
        folder = self._folder(hierarchy, result)
        for node in self._added:
            item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
            hierarchy.SetItemParent(item, folder)

    def _folder(self, hierarchy, result):
        for node in allOf(self.resultNode):
            item = hierarchy.GetItemByDataNode(node) if node not in self._added else 0
            parent = hierarchy.GetItemParent(item) if item else 0
            if parent and hierarchy.GetItemAttribute(parent, KIND) == "folder":
                return parent
        name = _("{result} quality").format(result=self.resultNode.GetName())
        folder = hierarchy.CreateFolderItem(hierarchy.GetItemParent(result), name)
        hierarchy.SetItemAttribute(folder, KIND, "folder")
        return folder


def allOf(resultNode):
    """The nodes that measurements made for a result."""
    scene = resultNode.GetScene()
    found = []
    for className in ("vtkMRMLTableNode", "vtkMRMLPlotSeriesNode", "vtkMRMLPlotChartNode"):
        for node in slicer.util.getNodesByClass(className, scene):
            isOurs = node.GetAttribute(KIND) and node.GetAttribute(OWN_ID) == node.GetID()
            if isOurs and node.GetNodeReferenceID(RESULT_ROLE) == resultNode.GetID():
                found.append(node)
    return found


def find(resultNode, kind):
    """The node of a kind that was measured for a result, None if there is none."""
    if resultNode is None or resultNode.GetScene() is None:
        return None
    return next((node for node in allOf(resultNode) if node.GetAttribute(KIND) == kind), None)
