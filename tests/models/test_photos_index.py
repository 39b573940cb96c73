# SPDX-License-Identifier: Apache-2.0
"""What a CSV says of photos."""

from cmr_models.photos.index import group_of, groups_of, load_boxes, load_groups


def test_groups_come_from_the_index_or_the_folder(tmp_path):
    index = tmp_path / "index.csv"
    index.write_text("image,group\nall/rooms/a.jpg,rooms_7\n")
    groups = load_groups(index)
    assert group_of("rooms/a.jpg", groups) == "rooms_7"
    assert group_of("rooms/b.jpg", groups) == "rooms"
    assert group_of("c.jpg", groups) == "."


def test_groups_of_labelled_photos_are_the_indexs_or_the_labels_own():
    labelled = {"labels": [{"image": "r/1.jpg", "group": "r_1"}], "detections": {"r/1.jpg": [], "r/2.jpg": []}}
    assert groups_of(labelled, {}) == {"r/1.jpg": "r_1"}, "a file of before: nobody knows the other's"
    assert groups_of(labelled | {"groups": {"r/1.jpg": "r_1", "r/2.jpg": "r_2"}}, {"r/1.jpg": "r_9"}) == {
        "r/1.jpg": "r_9",
        "r/2.jpg": "r_2",
    }


def test_boxes_are_read_where_somebody_marked_them(tmp_path):
    index = tmp_path / "index.csv"
    index.write_text('image,group,hand_boxes_xyxy\nx/rooms/0.png,a,"[[0, 1, 2, 3]]"\nx/rooms/1.png,a,[]\ny/2.png,b,\n')
    assert load_boxes(index) == {"rooms/0.png": [(0, 1, 2, 3)], "rooms/1.png": []}
