# SPDX-License-Identifier: Apache-2.0
"""The tracker: checks what it is given, and has images looked at, videos followed, live frames worked off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .arguments import (
    Clock,
    check_boxes,
    check_callback,
    check_camera,
    check_choice,
    check_flag,
    check_image,
    check_probability,
    check_scale,
    check_smoothing,
    check_whole,
)
from .bundle import Bundle
from .camera import Camera
from .detect import Detector
from .errors import InputError
from .finding import Finder
from .following import Follower
from .live import Worker
from .pipeline import Pipeline
from .precision import open_bundle
from .registration.checks import check_length, check_prior
from .registration.constants import DEPTH_BOUNDS
from .registration.scale import LENGTH_SPREAD
from .results import Hand, changed
from .rig import Rig
from .roi import Roi
from .search import CLEAR
from .session import CPU, MAX_THREADS, check_providers
from .smoothing import Smoother, Smoothing

__all__ = ["MAX_HANDS", "HandMeshTracker"]

#: Most hands that are searched for or followed.
MAX_HANDS = 64

_Image = npt.NDArray[np.uint8]
_Box = Sequence[float] | npt.NDArray[np.generic] | Roi
_OnResult = Callable[[list[Hand], float, _Image], object]


class _Parts(NamedTuple):
    """All that holds a network: dropped together, they are freed at once."""

    stages: Pipeline
    finder: Finder
    follower: Follower


class HandMeshTracker:
    """From images to hand meshes in camera space. It serves one thread; several take one each, of one bundle.

    Parameters
    ----------
    bundle : Bundle, path or None
        The model; None is the one that comes with the package. A network that does not judge whether there is a hand
        cannot search: where no boxes are given it looks at the largest square in the middle of the image.
    mode : {"video", "image", "live"}
        "image": every image is searched as a whole, nothing is remembered. "video": images are frames of one video;
        a hand found is followed from frame to frame, and while hands are missing a part of each frame is searched, so
        that the time of a frame stays bounded. "live": as "video", in a thread of its own: frames go in by `submit`,
        hands come out by `on_result`, and of frames that come faster than they can be looked at the newest wins.
    num_hands : int
        Most hands that are searched for or followed, 1 to 64.
    min_presence : float or None
        A hand counts as there from this `Hand.score`, 0 to 1. None stands for 0.5 where the network gives its
        probability, and else for 0.2: as clear as a search wants the heat maps.
    threads : int
        Threads inside a stage, 1 to 256.
    hand_scale : (float, float)
        Mean and standard deviation of the hand's size as a multiple of the network's: what is known of it beforehand.
        The mean is 0.1 to 10, the standard deviation 0 to 0.3 times the mean.
    solver : str
        Of the registration where NumPy does it, see `cmr_runtime.registration.register`.
    refine : int
        Rounds in which a caller's box may be drawn again, upright and around the keypoints seen in it, where the hand
        lies askew or the box fits it badly; 0 keeps every box as it is.
    hand_length : float or None
        Length of the hand where it is known, metres, from the crease of the wrist to the tip of the middle finger. It
        takes the place of `hand_scale`, and makes depth several times surer.
    side : {"left", "right"} or None
        Of every hand, where it is known: the network is then not asked, which saves looks. None leaves it to the
        network; one that does not tell takes every hand for a right one.
    smoothing : bool or Smoothing
        Whether, or how much, the hands of a video are smoothed.
    joints_only : bool
        Give no vertices and faces, and do not smooth them.
    on_result : callable or None
        In mode live: called with the hands, the timestamp and the image of each frame that was looked at.
    precision : {"fp32", "int16", "int8", "auto"} or None
        In which the networks run. "int16" and "int8" need no other bundle where this has plans and the core the
        instructions; "auto" is the fastest here, with these threads and providers, measured once. None is as a bundle
        of your own was exported, and for that of the package the first that the core does of "int16" (on x86; it gives
        what floats give), "int8" (on Arm, too; 0.1 mm off in the mean) and "fp32".
    providers : sequence of str
        Execution providers of ONNX Runtime, the preferred one first; the CPU does what none of them takes.
    recall : bool
        In a video, look at a hand that goes on as expected with the second network alone: it takes up its own 2D cues
        of the last frame. The first is asked again after three seconds, and wherever a hand surprises. Bundles whose
        network was not trained for it are always looked at with both.
    depth_bounds : (float, float)
        Nearest and farthest that a hand's root may be, metres. Where a hand meets one of them its position is no
        measurement: `Registration.bounds_active` says so.

    Raises
    ------
    BundleError
        There is no bundle, it is damaged, or its mesh cannot be placed: it has no 2D pose or no joint regressor.
    InputError
        An option out of range.

    Examples
    --------
    >>> with HandMeshTracker(mode="image") as tracker:  # doctest: +SKIP
    ...     for hand in tracker.track(rgb, Camera.from_fov(60, 640, 480)):
    ...         print(hand.handedness, hand.translation)
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        mode: Literal["image", "video", "live"] = "video",
        num_hands: int = 1,
        min_presence: float | None = None,
        threads: int = 1,
        hand_scale: tuple[float, float] = (1.0, 0.08),
        solver: str = "osqp",
        refine: int = 2,
        hand_length: float | None = None,
        side: Literal["left", "right"] | None = None,
        smoothing: bool | Smoothing = True,
        joints_only: bool = False,
        on_result: _OnResult | None = None,
        precision: Literal["fp32", "int16", "int8", "auto"] | None = None,
        providers: Sequence[str] = CPU,
        recall: bool = True,
        depth_bounds: tuple[float, float] = DEPTH_BOUNDS,
    ) -> None:
        check_choice("mode", mode, ("image", "video", "live"))
        check_choice("side", side, ("left", "right", None))
        check_callback(on_result, mode)
        self._num_hands = check_whole("num_hands", num_hands, 1, MAX_HANDS)
        refine = check_whole("refine", refine, 0, 10)
        self._joints_only, recall = check_flag("joints_only", joints_only), check_flag("recall", recall)
        hand_scale = check_prior(*check_scale(hand_scale), name="hand_scale")
        hand_length = check_length(hand_length)
        settings = check_smoothing(smoothing)
        least = None if min_presence is None else check_probability("min_presence", min_presence)
        threads = check_whole("threads", threads, 1, MAX_THREADS)
        providers = check_providers(providers)
        bundle = open_bundle(bundle, precision, threads, providers)
        self.bundle, self.mode = bundle, mode
        recall = recall and mode != "image"
        stages = Pipeline(bundle, threads, hand_scale, solver, hand_length, side, providers, recall, depth_bounds)
        min_presence = (0.5 if stages.viewer.detects else CLEAR) if least is None else least
        detector = None if bundle.detector is None else Detector(bundle, threads, providers)
        finder = Finder(stages.viewer, detector, min_presence, refine)
        smoother: Callable[[], Smoother | None] = _unsmoothed
        if settings is not None and mode != "image":
            rig = Rig(bundle.topology, bundle.root_joint)
            spread = hand_scale[1] / hand_scale[0] if hand_length is None else LENGTH_SPREAD
            smoother = partial(Smoother, settings, rig, spread, mesh=not self._joints_only)
        follower = Follower(stages, finder, self._num_hands, min_presence, smoother)
        self._parts: _Parts | None = _Parts(stages, finder, follower)
        self._clock = Clock()
        self._worker = None if on_result is None else Worker(self._follow, on_result)

    @property
    def faces(self) -> npt.NDArray[np.int32]:
        """Triangles, (F, 3), of a right hand's mesh; `Hand.faces` has them wound for the side of that hand."""
        return self.bundle.topology.faces

    def track(
        self,
        rgb: npt.NDArray[np.uint8],
        camera: Camera | None = None,
        timestamp: float | None = None,
        rois: Sequence[_Box] | npt.NDArray[np.generic] | None = None,
    ) -> list[Hand]:
        """Hands in an image, or in the next frame of a video.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            Image, RGB.
        camera : Camera or None
            Intrinsics for this image. None assumes a horizontal field of view of 60°; `registration.metric` of each
            hand is then False, and its depth is right only up to an unknown factor.
        timestamp : float or None
            Seconds; where given in mode video, greater than the one given before. Without them a video counts as one
            of 30 frames a second. Not used in mode image, nor with `rois`.
        rois : sequence of (x0, y0, x1, y1) or Roi, or None
            The caller's own boxes, edges in pixels ((0, 0, W, H) is the whole image); one that is not square becomes
            the smallest square around it; they may reach outside the image. A `Roi`, such as that of a hand found
            elsewhere, may be turned. Each gives a hand unless the presence in
            it is too low. There is then no search; what is followed and the time of the video are neither used nor
            changed.

        Returns
        -------
        list of Hand
            In the order of the boxes; otherwise hands followed longest first.

        Raises
        ------
        InputError
            An image of another type or shape, a box without area, a timestamp that does not increase, a closed tracker,
            or one in mode live.
        CameraError
            The camera belongs to an image of another size, or its pixels are more than 5 % off square.
        """
        if self._worker is not None:
            raise InputError("a tracker in mode 'live' gives hands to on_result; call submit() in place of track()")
        parts, image = self._open(), check_image(rgb)
        metric = camera is not None
        camera = check_camera(camera, image.shape[1], image.shape[0])
        boxes = None if rois is None else check_boxes(rois)
        if self.mode == "video" and boxes is None:
            return self._follow(image, camera, metric, self._clock(timestamp))
        parts.finder.searched_ms = 0.0
        views = parts.finder(image, self._num_hands) if boxes is None else parts.finder.look(image, boxes)
        return [self._shown(parts, parts.stages.hand(image, view, camera, metric)) for view in views]

    @property
    def detect_ms(self) -> float:
        """Time of the search for hands in the last frame, milliseconds, as in `StageTimes`; 0 if none ran.

        It is also told of a frame in which the search found nothing. A closed tracker has 0.
        """
        return 0.0 if self._parts is None else self._parts.finder.searched_ms

    def submit(self, rgb: npt.NDArray[np.uint8], camera: Camera | None = None, timestamp: float | None = None) -> None:
        """Hand a frame over in mode live; it returns at once.

        A frame that still waits for the worker gives way to this one and counts as `dropped`. The image is copied.

        Parameters
        ----------
        rgb, camera
            As for `track`.
        timestamp : float or None
            Seconds, greater than the one before. None is the time of this call by `time.perf_counter`.

        Raises
        ------
        InputError
            As for `track`, or a tracker in another mode.
        CameraError
            The camera belongs to an image of another size, or its pixels are more than 5 % off square.
        Exception
            What the worker or `on_result` raised since the last call; the worker goes on with the next frame.
        """
        self._open()
        if self._worker is None:
            raise InputError(f"a tracker in mode {self.mode!r} returns hands; call track() in place of submit()")
        image = check_image(rgb)
        metric = camera is not None
        camera = check_camera(camera, image.shape[1], image.shape[0])
        seconds = self._clock(time.perf_counter() if timestamp is None else timestamp)
        self._worker.submit(image.copy(), camera, metric, seconds)

    @property
    def dropped(self) -> int:
        """Frames of mode live that gave way to newer ones."""
        return 0 if self._worker is None else self._worker.dropped

    def follow(self, rois: Sequence[_Box] | npt.NDArray[np.generic]) -> None:
        """Begin to follow what boxes show in the next frame of a video, in the place of what was followed so far.

        Parameters
        ----------
        rois : sequence of (x0, y0, x1, y1) or Roi
            As for `track`; those beyond `num_hands` are not looked at.

        Raises
        ------
        InputError
            A box without area, or a tracker in mode image, which follows nothing.
        """
        if self.mode == "image":
            raise InputError("a tracker in mode 'image' follows nothing; give the boxes to track(rois=...)")
        parts, boxes = self._open(), check_boxes(rois)
        with self._still():
            parts.finder.boxes = boxes
            parts.follower.forget()

    def reset(self) -> None:
        """Forget the hands followed, their numbers and the last timestamp: the next frame begins another video.

        In mode live a frame that waits is dropped.
        """
        with self._still():
            if self._parts is not None:
                self._parts.follower.reset()
                self._parts.finder.reset()
            self._clock.reset()

    def close(self) -> None:
        """Release the networks; a second time does nothing.

        In mode live the worker's thread ends first: with the frame it works on; one that waits is dropped. What it or
        `on_result` raised since the last `submit` is raised here.
        """
        try:
            if self._worker is not None:
                self._worker.close()
        finally:
            with self._still():
                self._parts = None

    def __enter__(self) -> HandMeshTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> _Parts:
        if self._parts is None:
            raise InputError("the tracker is closed; make a new one")
        return self._parts

    def _still(self) -> AbstractContextManager[object]:
        return nullcontext() if self._worker is None else self._worker.still()

    def _follow(self, image: _Image, camera: Camera, metric: bool, seconds: float) -> list[Hand]:
        parts = self._open()
        parts.finder.searched_ms = 0.0
        return [self._shown(parts, hand) for hand in parts.follower(image, camera, metric, seconds)]

    def _shown(self, parts: _Parts, hand: Hand) -> Hand:
        hand = parts.finder.timed(hand)
        return changed(hand, vertices=hand.vertices[:0], faces=hand.faces[:0]) if self._joints_only else hand


def _unsmoothed() -> None:
    """Make no smoother."""
