"""The element that a configuration describes, by its kind: the one place that knows the classes.

boto3 takes a tenth of a second to import, so it is imported where there is an S3 element, and only
there.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from uuid import UUID

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementError
from artstorefs.elements.adoption import Adoption, Witnesses, nothing_known
from artstorefs.elements.counted import CountedElement
from artstorefs.elements.gauges import Gauges
from artstorefs.elements.identified import IdentifiedElement, Join
from artstorefs.elements.interface import IN_PLACE, OVER_A_NETWORK, Capabilities, Element
from artstorefs.elements.local import LocalElement


def open_element(
    configuration: ElementConfiguration,
    *,
    for_readers: bool = False,
    briefly: bool = False,
    gauges: Gauges | None = None,
    adoption: Adoption | None = None,
) -> Element:
    """One element. `ElementUnavailable` if a local one is not there; one over a network is asked
    nothing here, and fails at its first use; after less time `for_readers`, who wait for it, and
    after some seconds, and whatever the breaker says, if it is asked `briefly`. With `gauges` its
    calls are counted there, and it has the breaker of these. `adoption`: what is known of an
    adopted one; nothing if it is not given, and whoever opens it sees to what it is."""
    if gauges is None:
        return _open(configuration, for_readers, briefly, None, adoption)
    try:
        element = _open(configuration, for_readers, briefly, gauges, adoption)
    except ElementError as exc:
        gauges.counters.failed(exc)
        raise
    return CountedElement(element, gauges.counters)


def _open(
    configuration: ElementConfiguration,
    for_readers: bool,
    briefly: bool,
    gauges: Gauges | None,
    adoption: Adoption | None,
) -> Element:
    if configuration.kind == "s3":
        from artstorefs.elements.s3_opening import open_s3_element

        return open_s3_element(
            configuration, for_readers=for_readers, briefly=briefly, gauges=gauges
        )
    known = (adoption or Adoption()) if configuration.adopted else None
    return LocalElement(
        *(configuration.id, str(configuration.path)),
        capacity_bytes=configuration.capacity,
        adoption=known,
    )


def open_elements(configurations: Iterable[ElementConfiguration]) -> dict[str, Element]:
    """The elements by their ids. Raises ElementError for one that is not there."""
    return {configuration.id: open_element(configuration) for configuration in configurations}


def identified_element(
    configuration: ElementConfiguration,
    archive_id: UUID,
    require: Callable[[], None] | None = None,
    *,
    for_readers: bool = False,
    gauges: Gauges | None = None,
    witnesses: Witnesses = nothing_known,
    join: Join | None = None,
) -> Element:
    """One element of an archive, opened and checked to be that at its first use, if `require` lets
    it be used. Asks nothing here. `witnesses` and `join` are for one that was adopted."""
    adoption = adoption_of(configuration, archive_id, witnesses)
    return IdentifiedElement(
        lambda: open_element(
            configuration, for_readers=for_readers, gauges=gauges, adoption=adoption
        ),
        id=configuration.id,
        kind=configuration.kind,
        place=configuration.place,
        capabilities=capabilities_of(configuration),
        archive_id=archive_id,
        require=require,
        adoption=adoption,
        join=None if adoption is None else join,
    )


def adoption_of(
    configuration: ElementConfiguration, archive_id: UUID, witnesses: Witnesses
) -> Adoption | None:
    """What is known of an element, if it is an adopted one."""
    return Adoption(witnesses, archive_id) if configuration.adopted else None


def capabilities_of(configuration: ElementConfiguration) -> Capabilities:
    """What the element will have once it is open."""
    if configuration.kind == "s3":
        return replace(OVER_A_NETWORK, at_once=configuration.concurrency)
    return IN_PLACE


def initialize_element(configuration: ElementConfiguration) -> None:
    """Make an element of an empty directory, or check that a bucket is there and can be one.

    Idempotent. `ElementDenied` where other things lie; other ElementErrors of its place.
    """
    if configuration.kind == "local":
        LocalElement.initialize(str(configuration.path))
        return
    from artstorefs.elements.s3_opening import open_s3_element

    element = open_s3_element(configuration)
    try:
        element.initialize()
    finally:
        element.close()
