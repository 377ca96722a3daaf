"""The one error that the panel and the Python console see."""


class SynthesisError(RuntimeError):
    """A synthesis that did not take place; the scene is as it was.

    `str(error)` reads as the panel shows it: the cause in one sentence, then what to do.

    :ivar cause: what went wrong and where, one sentence
    :ivar nextStep: what to do about it, one sentence or empty
    :ivar kind: "input", "model", "unfit", "memory", "cancelled", "package", "process" or "result"
    :ivar log: the last lines of the child process, for whoever looks into it
    """

    def __init__(self, cause, nextStep="", kind="input", log=()):
        super().__init__(f"{cause} {nextStep}".strip())
        self.cause = cause
        self.nextStep = nextStep
        self.kind = kind
        self.log = list(log)


def fromLibrary(error):
    """The panel's error for one of the library's."""
    return SynthesisError(str(error), error.next_step, error.kind)
