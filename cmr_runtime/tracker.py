# SPDX-License-Identifier: Apache-2.0
"""The tracker: boxes, then the stages, then hands; and from the hands the boxes of the next frame."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from .arguments import (
    check_boxes,
    check_camera,
    check_choice,
    check_image,
    check_probability,
    check_scale,
    check_timestamp,
    check_whole,
)
from .bundle import Bundle
from .camera import Camera
from .errors import InputError
from .following import Track
from .pipeline import Pipeline
from .results import Hand
from .roi import Roi
from .search import CLEAR, SAME, Search
from .view import View

__all__ = ["HandMeshTracker"]

_Image = npt.NDArray[np.uint8]
_Box = Sequence[float] | npt.NDArray[np.generic]


class HandMeshTracker:
    """From images to hand meshes in camera space.

    Parameters
    ----------
    bundle : Bundle, path or None
        The model; None is the one that comes with the package. A network that does not judge whether there is a hand
        cannot search: where no boxes are given it looks at the largest square in the middle of the image.
    mode : {"video", "image", "live"}
        "image": every image is searched as a whole, nothing is remembered. "video": images are frames of one video;
        a hand found is followed from frame to frame, and while hands are missing a few windows of each frame are
        searched, so that the time of a frame stays bounded. "live": the same as "video" for now, each call returns its
        own frame's hands; dropping frames under load is up to the caller.
    num_hands : int
        Most hands that are searched for or followed.
    min_presence : float or None
        A hand counts as there from this `Hand.score`, 0 to 1. None stands for 0.5 where the network gives its
        probability, and else for 0.2: as clear as a search wants the heat maps.
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
    side : {"left", "right"} or None
        Of every hand, where it is known: the network is then not asked, which saves looks. None leaves it to the
        network; one that does not tell takes every hand for a right one.

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

    #: Side of a hand's box as a multiple of the larger side of its keypoints' bounding box: the middle (geometric
    #: mean) of the range that the network is trained with.
    TRACK_SCALE = 1.7
    #: A caller's box is drawn again if the hand in it is turned by more than this, radians.
    ASKEW = 0.5
    #: Windows searched per frame of a video.
    SEARCH_BUDGET = 8

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
    ) -> None:
        check_choice("mode", mode, ("image", "video", "live"))
        check_choice("side", side, ("left", "right", None))
        self._num_hands = check_whole("num_hands", num_hands, 1, 64)
        self._refine = check_whole("refine", refine, 0, 10)
        least = None if min_presence is None else check_probability("min_presence", min_presence)
        if bundle is None:
            bundle = Bundle.default()
        elif not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        self.bundle = bundle
        self.mode = mode
        stages = Pipeline(bundle, threads, check_scale(hand_scale), solver, hand_length, side)
        self._pipeline: Pipeline | None = stages
        self._min_presence = (0.5 if stages.viewer.detects else CLEAR) if least is None else least
        self._search = Search(self._min_presence, self.TRACK_SCALE)
        self._tracks: list[Track] = []
        self._boxes: list[Roi] = []
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
        metric = camera is not None
        camera = check_camera(camera, image.shape[1], image.shape[0])
        boxes = None if rois is None else check_boxes(rois)
        if self.mode != "image":
            self._timestamp = check_timestamp(timestamp, self._timestamp)

        if boxes is not None:
            views = self._look(stages, image, boxes)
        elif self.mode == "image":
            views = self._find(stages, image, self._num_hands)
        else:
            return self._next_frame(stages, image, camera, metric)
        return [stages.hand(image, view, camera, metric) for view in views]

    def follow(self, rois: Sequence[_Box] | npt.NDArray[np.generic]) -> None:
        """Begin to follow what boxes show in the next frame of a video, in the place of what was followed so far.

        Parameters
        ----------
        rois : sequence of (x0, y0, x1, y1)
            As for `track`; those beyond `num_hands` are not looked at.

        Raises
        ------
        InputError
            A box without area, or a tracker in mode image, which follows nothing.
        """
        if self.mode == "image":
            raise InputError("a tracker in mode 'image' follows nothing; give the boxes to track(rois=...)")
        self._boxes, self._tracks = check_boxes(rois), []

    def reset(self) -> None:
        """Forget the hands followed and the last timestamp: the next frame begins another video."""
        self._tracks, self._boxes = [], []
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

    def _look(self, stages: Pipeline, image: _Image, boxes: Sequence[Roi]) -> list[View]:
        """Return views of the boxes that show a hand."""
        views = [self._look_closer(stages, image, box) for box in boxes]
        return [view for view in views if view.presence >= self._min_presence]

    def _look_closer(self, stages: Pipeline, image: _Image, box: Roi) -> View:
        """Look at a box, drawn again around what is seen in it where the hand lies askew or fits it badly."""
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

    def _find(
        self,
        stages: Pipeline,
        image: _Image,
        count: int,
        known: Sequence[Roi] = (),
        budget: int | None = None,
    ) -> list[View]:
        """Return views of hands besides the known ones: in boxes to follow, else searched for, else in the middle."""
        boxes, self._boxes = self._boxes, []
        if not boxes:
            if stages.viewer.detects:
                return self._search(stages.viewer, image, count, known, budget)
            height, width = image.shape[:2]
            boxes = [] if known else [Roi(0.5 * (width - 1), 0.5 * (height - 1), min(width, height))]
        return self._look(stages, image, boxes[:count])

    def _next_frame(self, stages: Pipeline, image: _Image, camera: Camera, metric: bool) -> list[Hand]:
        hands: list[Hand] = []
        kept: list[Track] = []
        for track in self._tracks:
            view = track.look(stages.viewer, image, self._min_presence)
            if view is not None:
                self._keep(stages.hand(image, view, camera, metric), track, hands, kept)
        missing = self._num_hands - len(kept)
        if missing > 0:
            known = [track.roi for track in kept]
            for view in self._find(stages, image, missing, known, self.SEARCH_BUDGET):
                self._keep(stages.hand(image, view, camera, metric), Track(view.roi), hands, kept)
        self._tracks = kept
        return hands

    def _keep(self, hand: Hand, track: Track, hands: list[Hand], kept: list[Track]) -> None:
        """Add a hand and where it is expected next, unless another box has run into the same hand."""
        # The mesh as it was placed: steadier than 2D keypoints, of which single ones may be far off.
        joints = hand.camera.project(hand.joints)
        track.roi = Roi.upright(joints, self.TRACK_SCALE, hand.roi.angle, hand.roi.mirrored)
        if all(track.roi.overlap(other.roi) <= SAME for other in kept):
            hands.append(hand)
            kept.append(track)
