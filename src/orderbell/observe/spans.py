"""Spans of OpenTelemetry; see `orderbell.observe.traces` for what they are and how they hang together.

Only imported where traces are switched on: it needs the extra `orderbell[traces]`. Attributes go through the same
redaction as logs, and hold no address, no text and no person.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import time_ns
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orderbell import __version__
from orderbell.core.model import Fate, Message, Notice
from orderbell.core.turn import Turn
from orderbell.observe import redact
from orderbell.observe.traces import Origins

_FORMAT: Final = TraceContextTextMapPropagator()
_SERVER_ERROR: Final = 500
_LOW_BITS: Final = TraceIdRatioBased.TRACE_ID_LIMIT
_API: Final = "/v1/"
"""Where a caller's `traceparent` counts: strangers on public pages must not have us trace what they please."""

_NO_CONTEXT: Final = Context()


class _Ids(IdGenerator):
    """Random ids, but for the root span of a notice's trace, whose ids are given."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.given: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.given[0] if self.given is not None else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        return self.given[1] if self.given is not None else self._random.generate_span_id()


class _Batch:
    """A batch under way: where its events come from, and the contexts of its spans."""

    def __init__(self, origins: Origins, context: SpanContext) -> None:
        self.origins, self.context = origins, context


_batch: ContextVar[_Batch | None] = ContextVar("batch", default=None)


class Spans:
    """A `traces.Tracer` that hands spans to a processor.

    Args:
        processor: What becomes of spans that have ended.
        share: The share of notices and requests that is traced, 0 to 1.
        role: Which process this is, such as `web`.
    """

    def __init__(self, processor: SpanProcessor, share: float = 1.0, role: str = "") -> None:
        self._ids = _Ids()
        ratio = TraceIdRatioBased(share)
        self._bound = ratio.bound
        self._provider = TracerProvider(
            sampler=ParentBased(ratio),
            id_generator=self._ids,
            shutdown_on_exit=False,
            resource=Resource.create(
                {"service.name": "orderbell", "service.version": __version__, "orderbell.role": role}
            ),
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("orderbell", __version__)

    @classmethod
    def to(cls, url: str, share: float = 1.0, role: str = "") -> "Spans":
        """Spans that are sent by OTLP over HTTP, in batches, from a thread of their own."""
        return cls(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)), share, role)

    @contextmanager
    def request(self, scope: Mapping[str, Any]) -> Iterator[Callable[[str, int], None]]:
        """See `traces.Tracer`."""
        context = _parent_of(scope) if scope["path"].startswith(_API) else _NO_CONTEXT
        span = self._tracer.start_span(scope["method"], context, SpanKind.SERVER)

        def answered(route: str, status: int) -> None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= _SERVER_ERROR:
                span.set_status(trace.StatusCode.ERROR)

        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield answered

    def origin(self) -> SpanContext | None:
        """See `traces.Tracer`."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    @contextmanager
    def turn(self, origins: Origins) -> Iterator[None]:
        """See `traces.Tracer`."""
        requests = {one.span_id: one for one in origins.values()}
        links = [Link(one) for one in requests.values()]
        began = time_ns()
        span = self._tracer.start_span("turn", _NO_CONTEXT, links=links, attributes={"orderbell.events": len(origins)})
        token = _batch.set(_Batch(origins, span.get_span_context()))
        try:
            yield
        finally:
            _batch.reset(token)
            span.end()
            link = [Link(span.get_span_context())]
            for one in requests.values():  # so that whoever looks at a request sees when its events were decided
                self._tracer.start_span("decide", _below(one), links=link, start_time=began).end()

    def decided(self, turn: Turn) -> None:
        """See `traces.Tracer`."""
        batch = _batch.get()
        events = {(one.event.order_key, one.version): one.event for one in turn.entries}
        for notice in turn.notices:
            event = events.get(((notice.tenant, notice.order_no), notice.version))
            links = []
            if batch is not None:
                request = batch.origins.get(event.key) if event is not None else None
                links = [Link(one) for one in (request, batch.context) if one is not None]
            attributes = {
                **_of(notice), "orderbell.event.type": event.type if event is not None else "",
                "orderbell.event.id": event.id if event is not None else "",
            }  # fmt: skip
            self._ids.given = _ids_of(notice.id)
            try:
                self._tracer.start_span("notice", _NO_CONTEXT, attributes=_shown(attributes), links=links).end()
            finally:
                self._ids.given = None

    def planned(self, fates: Sequence[Fate], held: Sequence[Notice], began_ns: int) -> None:
        """See `traces.Tracer`."""
        for fate in fates:
            notice = fate.notice
            attributes = {**_of(notice), "orderbell.fate": fate.kind, "orderbell.reason": fate.reason.value}
            links = [Link(self._root(fate.into))] if fate.into and fate.into != notice.id else []
            self._in_trace(notice.id, "plan", attributes, began_ns, links)
        for notice in held:
            attributes = {**_of(notice), "orderbell.fate": "held", "orderbell.reason": notice.held}
            self._in_trace(notice.id, "plan", attributes, began_ns)

    def handed(self, provider: str, handed: Sequence[tuple[Message, int, str]], began_ns: int) -> None:
        """See `traces.Tracer`."""
        for message, attempt_no, outcome in handed:
            if not message.notices:
                continue
            first, *others = message.notices
            attributes = {
                "orderbell.tenant": message.tenant, "orderbell.order_no": message.order_no,
                "orderbell.topic": message.topic, "orderbell.channel": message.channel, "orderbell.lane": message.lane,
                "orderbell.provider": provider, "orderbell.attempt_no": attempt_no, "orderbell.outcome": outcome,
                "orderbell.together": len(handed),
            }  # fmt: skip
            links = [Link(self._root(one)) for one in others]
            self._in_trace(first, "send", attributes, began_ns, links, SpanKind.CLIENT)

    def heard(self, provider: str, heard: Sequence[tuple[Sequence[bytes], bool]]) -> None:
        """See `traces.Tracer`."""
        now = time_ns()
        for notices, delivered in heard:
            for notice_id in notices[:1]:
                attributes = {"orderbell.provider": provider, "orderbell.delivered": delivered}
                links = [Link(self._root(one)) for one in notices[1:]]
                self._in_trace(notice_id, "receipt", attributes, now, links, SpanKind.CONSUMER)

    def close(self) -> None:
        """See `traces.Tracer`."""
        self._provider.shutdown()

    def _root(self, notice_id: bytes) -> SpanContext:
        trace_id, span_id = _ids_of(notice_id)
        sampled = TraceFlags.SAMPLED if trace_id & _LOW_BITS < self._bound else TraceFlags.DEFAULT
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(sampled))

    def _in_trace(
        self, notice_id: bytes, name: str, attributes: Mapping[str, Any], began_ns: int, links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:  # fmt: skip
        parent = self._root(notice_id)
        if parent.trace_flags.sampled:
            shown = _shown(attributes)
            self._tracer.start_span(name, _below(parent), kind, shown, links, start_time=began_ns).end()


def _parent_of(scope: Mapping[str, Any]) -> Context:
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return _FORMAT.extract(carrier, _NO_CONTEXT)


def _below(parent: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(parent), _NO_CONTEXT)


def _ids_of(notice_id: bytes) -> tuple[int, int]:
    span_id = hashlib.blake2b(notice_id, digest_size=8).digest()
    return int.from_bytes(notice_id, "big"), int.from_bytes(span_id, "big")


def _of(notice: Notice) -> dict[str, Any]:
    return {
        "orderbell.tenant": notice.tenant, "orderbell.order_no": notice.order_no, "orderbell.topic": notice.topic,
        "orderbell.cause": notice.cause,
    }  # fmt: skip


def _shown(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return dict(redact(None, "", dict(attributes)))
