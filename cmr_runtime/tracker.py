# SPDX-License-Identifier: Apache-2.0
"""The tracker: boxes, then the stages, then hands; and from the hands the boxes of the next frame."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from .arguments import check_boxes, check_image, check_probability, check_scale, check_whole
from .bundle import Bundle
from .camera import Camera
from .errors import CameraError, InputError
from .pipeline import Pipeline
from .results import Hand
from .roi import Roi
from .search import SAME, Search
from .view import View, Viewer

__all__ = ["DEFAULT_FOV", "HandMeshTracker"]

#: Horizontal field of view assumed where no camera is given, degrees; usual for webcams. Depth is then not metric.
DEFAULT_FOV = 60.0

_Image = npt.NDArray[np.uint8]
_Box = Sequence[float] | npt.NDArray[np.generic]


@dataclass
class _Track:
    """A hand that is followed: where it is expected, whether its side was ever clear, and what spoke against it."""

    roi: Roi
    sure: bool = False
    against: float = 0.0


class HandMeshTracker:
    """From images to hand meshes in camera space.

    Parameters
    ----------
    bundle : Bundle, path or None
        The model; None is the one that comes with the package.
    mode : {"video", "image", "live"}
        "image": every image is searched as a whole, nothing is remembered. "video": images are frames of one video;
        a hand found is followed from frame to frame, and while hands are missing a few windows of each frame are
        searched, so that the time of a frame stays bounded. "live": the same as "video" for now, each call returns its
        own frame's hands; dropping frames under load is up to the caller.
    num_hands : int
        Most hands that are searched for or followed.
    min_presence : float
        A hand counts as there from this probability, 0 to 1.
    threads : int
        Threads inside a stage.
    hand_scale : (float, float)
        Mean and standard deviation of the hand's size as a multiple of the network's: what is known of it beforehand.
    solver : str
        Of the registration, see `cmr_runtime.registration.register`.
    refine : int
        Rounds in which a caller's box may be drawn again, upright and around the keypoints seen in it, where the hand
        lies askew or the box fits it badly; 0 keeps every box as it is.
    hand_length : float or None
        Length of the hand where it is known, metres, from the crease of the wrist to the tip of the middle finger. It
        takes the place of `hand_scale`, and makes depth several times surer.

    Raises
    ------
    BundleError
        There is no bundle, or it is damaged.
    InputError
        An option out of range.

    Examples
    --------
    >>> with HandMeshTracker(mode="image") as tracker:  # doctest: +SKIP
    ...     for hand in tracker.track(rgb, Camera.from_fov(60, 640, 480)):
    ...         print(hand.handedness, hand.translation)
    """

    #: Side of a hand's box as a multiple of the larger side of its keypoints' bounding box: the middle (geometric
    #: mean) of the range that the network is trained with.
    TRACK_SCALE = 1.7
    #: A hand's side is settled once it was this probable; until then each frame is looked at from both sides.
    SURE = 0.9
    #: A settled side changes when the frames in a row that contradict it add up to this many nats (log-odds): two or
    #: three frames that are certain, more that are in doubt.
    SIDE_EVIDENCE = 8.0
    #: A caller's box is drawn again if the hand in it is turned by more than this, radians.
    ASKEW = 0.5
    #: Windows searched per frame of a video.
    SEARCH_BUDGET = 8

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        mode: Literal["image", "video", "live"] = "video",
        num_hands: int = 1,
        min_presence: float = 0.5,
        threads: int = 1,
        hand_scale: tuple[float, float] = (1.0, 0.08),
        solver: str = "osqp",
        refine: int = 2,
        hand_length: float | None = None,
    ) -> None:
        if mode not in ("image", "video", "live"):
            raise InputError(f"mode is {mode!r}; give 'image', 'video' or 'live'")
        self._num_hands = check_whole("num_hands", num_hands, 1, 64)
        self._refine = check_whole("refine", refine, 0, 10)
        self._min_presence = check_probability("min_presence", min_presence)
        if bundle is None:
            bundle = Bundle.default()
        elif not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        self.bundle = bundle
        self.mode = mode
        self._pipeline: Pipeline | None = Pipeline(bundle, threads, check_scale(hand_scale), solver, hand_length)
        self._search = Search(self._min_presence, self.TRACK_SCALE)
        self._tracks: list[_Track] = []
        self._timestamp = -math.inf

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
            Seconds; where given in modes video and live, greater than the one before. Not used in mode image.
        rois : sequence of (x0, y0, x1, y1), or None
            The caller's own boxes, edges in pixels ((0, 0, W, H) is the whole image); one that is not square becomes
            the smallest square around it; they may reach outside the image. Each gives a hand unless the presence in
            it is too low. There is then no search, and what is followed is neither used nor changed.

        Returns
        -------
        list of Hand
            In the order of the boxes; otherwise hands followed longest first.

        Raises
        ------
        InputError
            An image of another type or shape, a box without area, a timestamp that does not increase, a closed tracker.
        CameraError
            The camera belongs to an image of another size.
        """
        stages = self._pipeline
        if stages is None:
            raise InputError("the tracker is closed; make a new one")
        image = check_image(rgb)
        height, width = image.shape[:2]
        metric = camera is not None
        if camera is None:
            camera = Camera.from_fov(DEFAULT_FOV, width, height)
        elif not isinstance(camera, Camera):
            raise CameraError(
                f"camera is a {type(camera).__name__}; give a Camera, for instance Camera.from_matrix(K, …)"
            )
        if (camera.width, camera.height) != (width, height):
            size = f"{camera.width}×{camera.height}"
            raise CameraError(
                f"camera is for {size} pixels, the image has {width}×{height}; give the camera of this image"
            )
        boxes = None if rois is None else check_boxes(rois)
        self._check_timestamp(timestamp)

        if boxes is not None:
            views = [self._look(stages, image, box) for box in boxes]
            views = [view for view in views if view.presence >= self._min_presence]
        elif self.mode == "image":
            views = self._search(stages.viewer, image, self._num_hands)
        else:
            return self._next_frame(stages, image, camera, metric)
        return [stages.hand(image, view, camera, metric) for view in views]

    def reset(self) -> None:
        """Forget the hands followed and the last timestamp: the next frame begins another video."""
        self._tracks = []
        self._search.reset()
        self._timestamp = -math.inf

    def close(self) -> None:
        """Release the networks; a second time does nothing."""
        self.reset()
        self._pipeline = None

    def __enter__(self) -> HandMeshTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_timestamp(self, timestamp: float | None) -> None:
        if timestamp is None or self.mode == "image":
            return
        if not isinstance(timestamp, int | float | np.number) or not math.isfinite(timestamp):
            raise InputError(f"timestamp is {timestamp!r}; give finite seconds")
        if timestamp <= self._timestamp:
            last = self._timestamp
            raise InputError(
                f"timestamp {timestamp} s follows {last} s; it must increase, or call reset() for a new video"
            )
        self._timestamp = float(timestamp)

    def _look(self, stages: Pipeline, image: _Image, box: Roi) -> View:
        """Look at a caller's box, drawn again around what is seen in it where the hand lies askew or fits it badly."""
        view = stages.viewer.sided(image, box, self._min_presence)
        for _ in range(self._refine):
            if not view.presence >= self._min_presence:
                break
            better = view.closer(self.TRACK_SCALE)
            turn = math.remainder(better.angle - view.roi.angle, 2 * math.pi)
            if abs(turn) < self.ASKEW and better.overlap(view.roi) > SAME:
                break
            view = stages.viewer.sided(image, better, self._min_presence)
        return view

    def _next_frame(self, stages: Pipeline, image: _Image, camera: Camera, metric: bool) -> list[Hand]:
        hands: list[Hand] = []
        kept: list[_Track] = []
        for track in self._tracks:
            view = self._follow(stages.viewer, image, track)
            if view is not None:
                self._keep(stages.hand(image, view, camera, metric), track, hands, kept)
        missing = self._num_hands - len(kept)
        if missing > 0:
            known = [track.roi for track in kept]
            for view in self._search(stages.viewer, image, missing, known, self.SEARCH_BUDGET):
                self._keep(stages.hand(image, view, camera, metric), _Track(view.roi), hands, kept)
        self._tracks = kept
        return hands

    def _follow(self, viewer: Viewer, image: _Image, track: _Track) -> View | None:
        """Look where the hand is expected; None if it is gone. A single frame does not change a side that was clear."""
        if not track.sure:
            view = viewer.sided(image, track.roi, self._min_presence)
        else:
            view = viewer(image, track.roi)
            track.against = max(0.0, track.against - _log_odds(view.prior.right)) if view.prior.right < 0.5 else 0.0
            if track.against >= self.SIDE_EVIDENCE:
                track.against = 0.0
                view = viewer.sided(image, track.roi, self._min_presence)
        track.sure = track.sure or view.prior.right >= self.SURE
        return view if view.presence >= self._min_presence else None

    def _keep(self, hand: Hand, track: _Track, hands: list[Hand], kept: list[_Track]) -> None:
        """Add a hand and where it is expected next, unless another box has run into the same hand."""
        # The mesh as it was placed: steadier than 2D keypoints, of which single ones may be far off.
        joints = hand.camera.project(hand.joints)
        track.roi = Roi.upright(joints, self.TRACK_SCALE, hand.roi.angle, hand.roi.mirrored)
        if all(track.roi.overlap(other.roi) <= SAME for other in kept):
            hands.append(hand)
            kept.append(track)


def _log_odds(probability: float) -> float:
    """Log-odds of a probability; certainty counts as one in two hundred for an error."""
    p = min(max(probability, 0.005), 0.995)
    return math.log(p / (1.0 - p))
