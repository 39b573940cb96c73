# SPDX-License-Identifier: Apache-2.0
"""Hands in space, shown in the browser: the camera with its image, the meshes, the way that their roots went."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from .arguments import DEFAULT_FOV
from .camera import Camera
from .draw import SKIN
from .errors import InputError

if TYPE_CHECKING:
    from .results import Hand

__all__ = ["HandView"]

_INK, _TRAIL, _WALL, _FLOOR_INK = (70, 80, 95), (235, 120, 40), (238, 241, 245), (205, 211, 220)
#: Depth at which the camera's image hangs, metres: in front of any hand.
_IMAGE_DEPTH = 0.09
#: Cells of the floor, metres, and how many of them make a section.
_CELL, _SECTION = 0.05, 4
#: Where the floor lies below the camera, and from where one looks, as multiples of the hand's depth.
_FLOOR, _FROM = 0.3, (-0.86, -0.42, -0.70)
#: Longest side of the image that is sent to the browser, pixels.
_IMAGE_SIDE = 480
#: Light comes from above the camera, to its left, and from behind the hand.
_LIGHTS = (((-0.5, -0.8, -0.4), 2.6), ((0.9, 0.1, -0.2), 0.5), ((0.1, -0.4, 1.0), 0.8))


class HandView:
    """A page at http://localhost:PORT that shows the last frame in 3D; needs viser (``pip install cmr-runtime[view]``).

    Axes are those of the camera frame, metres. Only programs on this machine can open the page, unless `host` says
    otherwise.

    Parameters
    ----------
    port : int
        Where the page is served; if it is taken, the next free one.
    host : str
        Address to serve at; "0.0.0.0" serves the whole network.
    trail : int
        Number of frames over which the way of a hand's root is drawn.

    Raises
    ------
    InputError
        viser is not installed.

    Examples
    --------
    >>> with HandView() as view:  # doctest: +SKIP
    ...     view.show(rgb, tracker.track(rgb, camera), camera)
    ...     view.wait()
    """

    def __init__(self, port: int = 8080, host: str = "127.0.0.1", trail: int = 90) -> None:
        try:
            import viser
        except ImportError:
            raise InputError("the 3D view needs viser: pip install 'cmr-runtime[view]'") from None
        with contextlib.redirect_stdout(io.StringIO()):  # it would print a banner
            self._server = viser.ViserServer(host=host, port=port, label="cmr-track", verbose=False)
        self._trail = trail
        self._trails: dict[int, deque[npt.NDArray[np.float64]]] = {}
        self._hands: dict[int, Any] = {}
        self._cameras: dict[tuple[int, ...], Camera] = {}  # of the last image, by its shape
        self._aimed = self._closed = False
        self._stage()

    @property
    def url(self) -> str:
        """Address of the page."""
        host = self._server.get_host()
        return f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{self._server.get_port()}"

    def show(self, image: npt.NDArray[np.uint8], hands: Sequence[Hand], camera: Camera | None = None) -> None:
        """Show a frame and its hands, if there are any, in the place of the last one.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        hands : sequence of Hand
            In it.
        camera : Camera or None
            Of the image. None is that of the first hand; without a hand the last one shown, if it was for an image of
            this shape, or else the field of view that the tracker assumes.
        """
        if camera is None:
            camera = hands[0].camera if hands else self._cameras.get(image.shape)
        camera = camera or Camera.from_fov(DEFAULT_FOV, image.shape[1], image.shape[0])
        self._cameras = {image.shape: camera}
        with self._server.atomic():
            for number in range(len(hands), len(self._hands)):
                self._hands.pop(number).remove()
            self._picture(image, camera)
            trails = {}
            for number, hand in enumerate(hands):
                trail: deque[npt.NDArray[np.float64]] = deque(maxlen=self._trail)
                if hand.track_id is not None:  # else it is of this picture alone
                    trail = trails[hand.track_id] = self._trails.get(hand.track_id, trail)
                self._hand(number, hand, trail)
            self._trails = trails
        if hands and not self._aimed:
            self._aim(hands[0])

    def forget(self) -> None:
        """End all trails: the next frame is of another video, whose hands are numbered from 0 again."""
        self._trails = {}

    def wait(self) -> None:
        """Keep the page until Ctrl-C."""
        try:
            while True:
                time.sleep(0.2)
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        """End the page; a second time does nothing."""
        if not self._closed:
            self._closed = True
            with contextlib.redirect_stdout(io.StringIO()):
                self._server.stop()

    def __enter__(self) -> HandView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stage(self) -> None:
        """Build what does not change: up, light, floor."""
        scene = self._server.scene
        scene.set_up_direction("-y")
        scene.set_background_image(np.full((2, 2, 3), _WALL, np.uint8))
        scene.configure_default_lights(enabled=False)
        scene.add_light_ambient("/light/ambient", intensity=0.45)
        for number, (direction, intensity) in enumerate(_LIGHTS):
            scene.add_light_directional(f"/light/{number}", position=direction, intensity=intensity)
        scene.world_axes.visible = False

    def _picture(self, image: npt.NDArray[np.uint8], camera: Camera) -> None:
        """Show the image in the camera's frustum; its apex is the camera."""
        shrink = min(1.0, _IMAGE_SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else image
        # viser's frustum looks along +z with its principal point in the middle. Its scale is the cube root of its
        # volume, so that this one brings the image to its depth.
        half_width, half_height = 0.5 * camera.width / camera.fx, 0.5 * camera.height / camera.fy
        self._server.scene.add_camera_frustum(
            "/camera",
            fov=2.0 * math.atan(half_height),
            aspect=half_width / half_height,
            scale=_IMAGE_DEPTH * (half_width * half_height / 3.0) ** (1.0 / 3.0),
            thickness=2.0,
            thickness_units="screen",
            color=_INK,
            image=small,
            format="jpeg",
        )

    def _hand(self, number: int, hand: Hand, trail: deque[npt.NDArray[np.float64]]) -> None:
        scene, name = self._server.scene, f"/hands/{number}"
        if number not in self._hands:
            self._hands[number] = scene.add_frame(name, show_axes=False)  # goes with all that is below it
        if len(hand.vertices):
            scene.add_mesh_simple(f"{name}/mesh", hand.vertices, hand.faces, color=SKIN[hand.handedness])
        trail.append(hand.translation)
        way = np.array([trail[0], *trail])
        segments = np.stack([way[:-1], way[1:]], axis=1)
        scene.add_line_segments(f"{name}/trail", segments, _TRAIL, thickness=3.0, thickness_units="screen")

    def _aim(self, hand: Hand) -> None:
        """Look at hand and camera from the side, the first time that there is a hand."""
        self._aimed = True
        depth = float(hand.translation[2])
        self._server.scene.add_grid(
            "/floor",
            plane="xz",
            position=(0.0, _FLOOR * depth, depth),
            width=4.0 * depth,
            height=4.0 * depth,
            cell_size=_CELL,
            section_size=_SECTION * _CELL,
            cell_color=_FLOOR_INK,
            section_color=_FLOOR_INK,
        )
        view = self._server.initial_camera
        middle = hand.translation * 0.5 - (0.0, 0.05 * depth, 0.0)  # between camera and hand
        view.look_at, view.position = tuple(middle), tuple(middle + depth * np.array(_FROM))
        view.up, view.fov = (0.0, -1.0, 0.0), math.radians(35.0)
        for client in self._server.get_clients().values():
            client.camera.position, client.camera.look_at, client.camera.fov = view.position, view.look_at, view.fov
