"""Reading and writing of videos frame by frame with PyAV, each frame with its presentation time."""

import contextlib
import heapq
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcrl_jax.decoding import MAX_PIXELS, too_large
from dcrl_jax.errors import InputError
from dcrl_jax.inference.extras import import_extra

# FFmpeg's names of the formats to open. Others are play lists, which name other files, and pictures.
FORMATS = (
    "asf,av1,avi,cine,dirac,dnxhd,dv,flv,gxf,h261,h263,h264,hevc,ivf,live_flv,m4v,matroska,mjpeg,mov,mpeg,mpegts,"
    "mpegvideo,mpjpeg,mxf,nsv,nut,obu,ogg,rm,vc1,vvc,webm,wtv,yuv4mpegpipe"
)
PROBED_PACKETS = 300
RESTART = 5  # intervals between frames; time stamps that go back by as many are those of a new clock


class Frame(NamedTuple):
    """One frame of a video."""

    number: int  # among the frames that can be read, from 0
    seconds: Fraction  # presentation time, later than that of the frame before
    picture: Any  # av.VideoFrame

    @property
    def pixels(self) -> np.ndarray:
        """The frame turned upright: [H, W, 3], RGB; of a grey video [H, W], the values as they are stored.

        Channels of 8 bits are uint8. Grey values and RGB colours of more bits are uint16, for the caller to refuse or
        to scale; grey ones keep their counts, e.g. 0 to 1023 of 10 bits. YUV colours of more bits, which mean the same
        colours in finer steps, become uint8.
        """
        kind = self.picture.format
        if kind.name.startswith("gray"):
            pixels = self.picture.to_ndarray()
        else:
            has_more_bits = kind.is_rgb and max(part.bits for part in kind.components) > 8
            pixels = self.picture.to_ndarray(format="rgb48le" if has_more_bits else "rgb24")
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        # Both the angle and rot90 turn counterclockwise.
        return np.rot90(native, round(self.picture.rotation / 90))


class Video:
    """A video file.

    Attributes:
        path: the file.
        time_base: seconds; every time stamp is a multiple of it.
        interval: the median of the first intervals between frames, in seconds; None if there is only one frame.
        start: the time stamp at which the video begins, in seconds.
        count_hint: an estimate of the number of frames for progress bars; None if the header does not help.
    """

    def __init__(self, path: Path):
        """Read the header and the first time stamps.

        Raises:
            InputError: the file does not exist, is not a video or has neither time stamps nor a rate, or PyAV is
                missing.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        self.path = path
        self._count = self._damaged = self._gaps = 0
        self._cut_off = self._new_size = ""
        self._is_interlaced = False
        with _open(path) as container:
            streams = _video_streams(container)
            self._ignored_streams, stream = len(streams) - 1, streams[0]
            self._nominal_rate = _nominal_rate(path, container, stream)
            # AVI stores decoding times only. FFmpeg's guesses from them are out of order where frames are reordered.
            self._is_reordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
            if self._nominal_rate:
                self.time_base = self.interval = 1 / self._nominal_rate
                self.start, intervals = Fraction(0), [self.interval]
            else:
                self.time_base, self.start = stream.time_base, (stream.start_time or 0) * stream.time_base
                intervals = self._first_intervals(container, stream)
                self.interval = statistics.median_low(intervals) if intervals else None
            self._clock = Clock(self.time_base, self.interval)
            seconds = (stream.duration or 0) * stream.time_base or Fraction(container.duration or 0, 1_000_000)
            estimate = round(seconds / statistics.mean(intervals)) if intervals else 0
            self.count_hint: int | None = stream.frames or estimate or None

    def _first_intervals(self, container, stream):
        packets = itertools.islice(container.demux(stream), PROBED_PACKETS)
        stamps = set()
        with contextlib.suppress(_ffmpeg_error()):
            stamps.update(packet.dts if self._is_reordered else packet.pts for packet in packets)
        times = sorted(stamp * stream.time_base for stamp in stamps - {None})
        return [after - before for before, after in itertools.pairwise(times)]

    def frames(self) -> Iterator[Frame]:
        """Yield the frames up to the last one that can be read, whatever the header says; see ``problems``.

        The times are the time stamps of the file, in the order in which frames are shown; ``Clock`` mends those that
        do not increase. A raw stream without time stamps is timed by its nominal rate. AVI, which stores the times of
        decoding only, is shown in the order of these.

        Raises:
            InputError: not a single frame can be read.
        """
        self._count = self._damaged = self._gaps = 0
        self._clock = Clock(self.time_base, self.interval)
        with _open(self.path) as container:
            stream = _video_streams(container)[0]
            # The threads of several frames would report a damaged packet late, when its time is already given away.
            stream.thread_type = "SLICE" if self._is_reordered else "AUTO"
            size = None
            for picture, time in self._clock.times(self._decode(container, stream)):
                number, self._count = self._count, self._count + 1
                self._is_interlaced |= picture.interlaced_frame
                size, former = (picture.width, picture.height), size
                if former not in (None, size) and not self._new_size:
                    self._new_size = f"{former[0]}x{former[1]} pixels, from frame {number} on {size[0]}x{size[1]}"
                yield Frame(number, time, picture)
        if not self._count:
            raise _no_frame(self.path)

    def _decode(self, container, stream):
        """Yield decoded frames and their time stamps, in seconds or None; count what is damaged or cut off."""
        error = _ffmpeg_error()
        whole, shown = _Extent(), _Extent()
        number, waiting = itertools.count(), []  # waiting: decoding times of packets whose frames have not come out
        is_transport_stream = container.format.name == "mpegts"
        try:
            # Packets of sound count too: a header may state the duration of the longest stream only.
            for packet in container.demux():
                whole.add(packet)
                if packet.stream.index != stream.index:
                    continue
                shown.add(packet)
                if is_transport_stream:  # only tells that packets are missing before, as where recordings are joined
                    self._gaps += packet.is_corrupt
                else:
                    self._damaged += packet.is_corrupt
                if self._is_reordered and packet.dts is not None:
                    heapq.heappush(waiting, packet.dts)
                try:
                    pictures = packet.decode()
                except error:
                    self._damaged += 1
                    if packet.dts in waiting:
                        waiting.remove(packet.dts)
                        heapq.heapify(waiting)
                    continue
                for picture in pictures:
                    self._damaged += picture.is_corrupt
                    decoding_time = heapq.heappop(waiting) if waiting else None
                    if self._nominal_rate:
                        yield picture, next(number) / self._nominal_rate
                    else:
                        stamp = decoding_time if self._is_reordered else picture.pts
                        yield picture, None if stamp is None else stamp * self.time_base
        except error:
            self._cut_off = "its end cannot be read"
        else:
            self._cut_off = _missing_end(self.path, container, stream, whole, shown)

    def problems(self) -> list[str]:
        """Return what could not be read of the frames so far, and whether the file is cut off."""
        problems = [f"{self._damaged} of its packets or frames are damaged"] if self._damaged else []
        problems += [f"it is cut off: {self._cut_off}"] if self._cut_off else []
        return [f"{self.path}: {problem}; {self._count} frames could be read." for problem in problems]

    def notes(self) -> list[str]:
        """Return what is worth knowing about the frames so far, e.g. times that are not those of the file."""
        clock, notes = self._clock, []
        if self._nominal_rate:
            notes.append(f"no time stamps; timed by its nominal rate of {float(self._nominal_rate):g} frames/s")
        if clock.restarts:
            notes.append(
                f"time stamps start again ({clock.restarts}x), as where recordings are joined; the times go on"
            )
        if clock.mended:
            notes.append(f"{clock.mended} time stamps are missing or do not increase; these frames follow the last one")
        if self._gaps:
            notes.append(f"packets are missing ({self._gaps}x), lost or where recordings are joined")
        if self._ignored_streams:
            notes.append(f"{self._ignored_streams + 1} video streams; only the first is used")
        if self._new_size:
            notes.append(f"{self._new_size}; the annotated video has one size, to which frames are stretched")
        if self._is_interlaced:
            notes.append("interlaced; detected as it is, with the lines of two moments in a frame")
        return [f"{self.path}: {note}." for note in notes]


class Clock:
    """Makes times that increase from the time stamps of a file, in seconds."""

    def __init__(self, tick: Fraction, interval: Fraction | None):
        """Take the time base and the usual interval between frames."""
        self._tick, self._interval = tick, interval or tick
        self.mended = self.restarts = 0

    def times(self, stamped: Iterable[tuple[Any, Fraction | None]]) -> Iterator[tuple[Any, Fraction]]:
        """Yield each frame with its time, which is its time stamp wherever these increase.

        A frame without a time stamp follows one interval after the last frame. One follows a tick after the last frame
        if its time stamp is not later, or is later than the next although that is later than the last. Where time
        stamps go back by RESTART intervals or more, the clock has started again, as in joined recordings: that frame
        follows one interval after the last, and the next ones are shifted with it.
        """
        last, shift = None, Fraction(0)
        for (picture, stamp), (_, following) in itertools.pairwise(itertools.chain(stamped, [(None, None)])):
            ahead = None if following is None else following + shift
            if stamp is None:
                self.mended += 1
                time = Fraction(0) if last is None else last + self._interval
            elif last is None:
                time = stamp
            elif stamp + shift <= last - RESTART * self._interval and (ahead is None or ahead <= last):
                self.restarts += 1
                time = last + self._interval
                shift = time - stamp
            elif stamp + shift <= last or (ahead is not None and last < ahead < stamp + shift):
                self.mended += 1
                time = last + self._tick
            else:
                time = stamp + shift
            last = time
            yield picture, time


class _Extent:
    """The time that packets cover, in seconds, and the longest time from one to the next."""

    def __init__(self):
        self.start = self.gap = Fraction(0)
        self.end: Fraction | None = None

    def add(self, packet):
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:  # a packet that flushes the decoder
            return
        begin, end = (ticks * packet.time_base for ticks in (stamp, stamp + (packet.duration or 0)))
        self.gap = max(self.gap, end - begin, begin - (begin if self.end is None else self.end))
        self.start = min(self.start, begin)  # negative if the file hides its first frames
        self.end = end if self.end is None else max(self.end, end)


@contextlib.contextmanager
def open_writer(path: Path, rate: Fraction, time_base: Fraction) -> Iterator[Callable[[np.ndarray, Fraction], None]]:
    """Yield a function that appends a frame, uint8 [H, W, 3] RGB, and its presentation time to an MP4 file.

    The codec is H.264 with 4:2:0 chroma, which every browser plays. It needs even sizes: an odd one grows by a copy of
    the last row or column. The first frame creates the file and its folder. If the block raises, the frames so far
    are kept. A time that does not increase becomes the next multiple of ``time_base``. Players of MP4 leave out frames
    before zero, so times that begin below it are shifted to begin there.

    Raises:
        OSError: the file cannot be written completely; it is deleted.
    """
    av = import_extra("av", "video")
    with contextlib.ExitStack() as on_exit:
        container: Any = None
        stream: Any = None
        last, shift = None, 0  # in multiples of time_base

        def write(pixels, time):
            nonlocal container, stream, last, shift
            height, width = pixels.shape[:2]
            if container is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                container = on_exit.enter_context(_delete_if_not_written(path))
                # The start of the video is a multiple of the movie timescale.
                options = {"movie_timescale": str(time_base.denominator)}
                container = on_exit.enter_context(av.open(f"file:{path}", "w", options=options))
                stream = container.add_stream("libx264", rate=rate, pix_fmt="yuv420p")
                stream.width, stream.height = width + width % 2, height + height % 2
                stream.codec_context.time_base = time_base
                on_exit.callback(lambda: container.mux(stream.encode(None)))
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            ticks = round(time / time_base)
            shift = max(0, -ticks) if last is None else shift
            ticks += shift
            last = ticks if last is None else max(ticks, last + 1)
            frame.time_base, frame.pts = time_base, last
            container.mux(stream.encode(frame))

        yield write


@contextlib.contextmanager
def _delete_if_not_written(path):
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _open(path) -> Any:
    av = import_extra("av", "video")
    try:
        # Without the protocol, a name with a colon would be taken for a web address.
        container = av.open(f"file:{path}", options={"format_whitelist": FORMATS})
    except av.error.ArgumentError as error:  # a format that is not in the list
        raise _no_video(path) from error
    except (av.error.FFmpegError, OSError) as error:
        raise _no_frame(path, is_open=False) from error
    try:
        streams = _video_streams(container)
        if not streams:
            raise _no_video(path)
        codec = streams[0].codec_context
        if not codec:
            raise InputError(f"{path}: no video that can be read: an unknown codec; convert it, e.g. to H.264.")
        if codec.width * codec.height > MAX_PIXELS:
            raise too_large(str(path))
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # of later frames
    except InputError:
        container.close()
        raise
    return container


def _no_video(path):
    reason = "a still image, text, sound, a play list or an unknown kind of animation"
    return InputError(f"{path}: no video that can be read: {reason}.")


def _video_streams(container):
    """Return the streams of a video, the one to use first; none of a still image."""
    if container.metadata.get("major_brand") in ("avif", "heic", "heix", "mif1"):
        return []
    kinds = import_extra("av", "video").stream.Disposition
    stills = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & stills]
    # An animated AVIF image has its cover as the first stream, of one frame.
    moving = [stream for stream in streams if stream.frames != 1]
    return moving or streams


def _nominal_rate(path, container, stream):
    """Return the frames per second that a raw stream states; None of a file with time stamps.

    FFmpeg gives raw streams time stamps at 25 frames per second, whatever they state.
    """
    if not container.format.flags & import_extra("av", "video").format.Flags.no_timestamps.value:
        return None
    rate = stream.codec_context.framerate
    if not rate:
        raise InputError(
            f"{path}: a raw {container.format.name} stream, with neither time stamps nor a rate. Put it into a file "
            f"with its rate: ffmpeg -framerate RATE -i {path} -c copy {path.stem}.mkv."
        )
    return Fraction(rate)


def _missing_end(path, container, stream, whole, shown):
    """Return how a video is cut off, as far as its container tells; empty if it is complete.

    Only durations that a header states count: FFmpeg estimates one for other files. The end may lie before the stated
    one by the longest time between two packets, since the last frame may be shown for as long.
    """
    formats, size = container.format.name.split(","), container.size
    if "mpegts" in formats:
        with open(path, "rb") as file:
            file.seek(max(0, size - 408))
            end = file.read()
        # Packets have 188 bytes, begin with 0x47 and may follow a time code of 4 bytes or precede 16 of correction.
        is_whole = any(end[-n::-step][:2] == b"\x47\x47" for n, step in ((188, 188), (188, 192), (204, 204)))
        return "" if is_whole else f"its {size} bytes do not end with a packet"
    stated, extent = None, shown
    if "mp4" in formats or "avi" in formats:
        stated = stream.duration and stream.duration * stream.time_base
        if "avi" in formats and stream.average_rate:  # the duration is an estimate if the index is cut off
            stated = max(stated or 0, stream.frames / stream.average_rate)
    elif {"matroska", "flv"}.intersection(formats) and stream.duration is None:
        stated, extent = container.duration and Fraction(container.duration, 1_000_000), whole
    if not stated or extent.end is None:
        return ""
    end = extent.end - extent.start
    if stated - end <= extent.gap:
        return ""
    return f"its header states {float(stated):.2f} s, but it ends after {float(end):.2f} s"


def _ffmpeg_error():
    return import_extra("av", "video").error.FFmpegError


def _no_frame(path, is_open=True):
    try:
        with path.open("rb") as file:
            content = file.read(8)
        size = path.stat().st_size
    except OSError as error:
        return InputError(f"{path}: {error.strerror}.")
    lacks_index = not is_open and content[4:] == b"ftyp"
    hint = " An MP4 or MOV file that is cut off lacks its index: copy it again." if lacks_index else ""
    return InputError(f"{path}: no frame can be read from its {size} bytes.{hint}")
