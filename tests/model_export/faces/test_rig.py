from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from model_export.contract.expression_units import EU_NAMES
from model_export.faces.errors import RigError
from model_export.faces.obj import read_obj
from model_export.faces.rig import RIG_NAMES, FaceRig, import_facexmodel, load_packed_rig, load_rig, save_packed_rig


def write_facexmodel(rig: FaceRig, folder: Path) -> None:
    """The folder that a clone of the rig would have."""
    folder.mkdir()
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in rig.vertices_V3.tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in rig.uv_U2.tolist()]
    current = -1
    for corners, uv, material in zip(
        (rig.triangles_T3 + 1).tolist(), (rig.uv_triangles_T3 + 1).tolist(), rig.materials_T.tolist(), strict=True
    ):
        if material != current:
            lines.append(f"usemtl {rig.material_names[material]}")
            current = material
        lines.append("f " + " ".join(f"{v}/{t}/1" for v, t in zip(corners, uv, strict=True)))
    (folder / "generic_neutral_mesh.obj").write_text("# a comment\n" + "\n".join(lines) + "\n")
    shapes = [(name, rig.offsets_RV3[index]) for index, name in enumerate(rig.offset_names)]
    shapes += [(f"identity{index:03d}", mode) for index, mode in enumerate(rig.identity_IV3)]
    for name, offsets in shapes:
        shape = rig.vertices_V3 + offsets.astype(np.float32)
        text = "\n".join(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in shape.tolist())
        (folder / f"{name}.obj").write_text(text + "\n")


def assert_same_rig(found: FaceRig, expected: FaceRig) -> None:
    assert found.offset_names == tuple(sorted(expected.offset_names))
    np.testing.assert_allclose(found.vertices_V3, expected.vertices_V3, atol=1e-5)
    np.testing.assert_array_equal(found.triangles_T3, expected.triangles_T3)
    np.testing.assert_array_equal(found.uv_triangles_T3, expected.uv_triangles_T3)
    np.testing.assert_allclose(found.uv_U2, expected.uv_U2, atol=1e-5)
    names = np.array(found.material_names)[found.materials_T]
    np.testing.assert_array_equal(names, np.array(expected.material_names)[expected.materials_T])
    for index, name in enumerate(found.offset_names):
        other = expected.offsets_RV3[expected.offset_names.index(name)].astype(np.float32)
        np.testing.assert_allclose(found.offsets_RV3[index].astype(np.float32), other, atol=2e-3)
    np.testing.assert_allclose(
        found.identity_IV3.astype(np.float32), expected.identity_IV3.astype(np.float32), atol=2e-3
    )


def test_a_facexmodel_folder_is_imported_as_the_rig_it_holds(tiny_rig: FaceRig, tmp_path: Path) -> None:
    write_facexmodel(tiny_rig, tmp_path / "FaceXModel")
    assert_same_rig(load_rig(tmp_path / "FaceXModel"), tiny_rig)


def test_the_real_rig_survives_writing_and_importing(face_rig: FaceRig, tmp_path: Path) -> None:
    """A cut of it: two of three vertices would only make the text longer."""
    cut = replace(face_rig, identity_IV3=face_rig.identity_IV3[:1])
    keep = np.unique(cut.triangles_T3[::40])
    place = np.full(len(cut.vertices_V3), -1, np.int32)
    place[keep] = np.arange(len(keep))
    whole = (place[cut.triangles_T3] >= 0).all(axis=1)
    cut = replace(
        cut,
        vertices_V3=cut.vertices_V3[keep],
        triangles_T3=place[cut.triangles_T3[whole]],
        uv_triangles_T3=cut.uv_triangles_T3[whole],
        materials_T=cut.materials_T[whole],
        offsets_RV3=cut.offsets_RV3[:, keep],
        identity_IV3=cut.identity_IV3[:, keep],
    )
    write_facexmodel(cut, tmp_path / "FaceXModel")
    # materials that the cut has lost are none of the importer's business
    if len(np.unique(cut.materials_T)) == len(cut.material_names):
        assert_same_rig(import_facexmodel(tmp_path / "FaceXModel"), cut)
    else:
        with pytest.raises(RigError, match="Missing: M_"):
            import_facexmodel(tmp_path / "FaceXModel")


def test_packing_keeps_every_array(tiny_rig: FaceRig, tmp_path: Path) -> None:
    save_packed_rig(tiny_rig, tmp_path / "rig.npz")
    read = load_packed_rig(tmp_path / "rig.npz")
    for field in fields(FaceRig):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(tiny_rig, field.name))
    assert read.digest() == tiny_rig.digest()


def test_every_unit_but_the_painted_ones_has_a_shape() -> None:
    bare = {name for name in EU_NAMES if not RIG_NAMES[name]}
    assert bare == {"pupilDilateLeft", "pupilDilateRight", "tongueOut"}
    assert RIG_NAMES["jawLeft"] == {"jawLeft": 1.0}
    assert RIG_NAMES["browDownLeft"] == {"browDown_L": 1.0}
    assert set(RIG_NAMES["cheekSquintRight"]) == {"cheekSquint_R", "cheekRaiser_R"}


def test_polygons_become_fans_and_faces_without_uv_are_read(tmp_path: Path) -> None:
    path = tmp_path / "square.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    mesh = read_obj(path)
    np.testing.assert_array_equal(mesh.triangles_T3, [[0, 1, 2], [0, 2, 3]])
    assert mesh.material_names == ("",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\n", "should hold faces"),
        ("v 0 0 0\nf 1 2 3\n", "indices should lie in 1..1"),
        ("v 0 0 x\nf 1 1 1\n", "should hold 3 numbers"),
        ("v 0 0 0\nf a b c\n", "should read v/vt/vn"),
    ],
)
def test_a_damaged_obj_is_refused_with_the_reason(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.obj"
    path.write_text(text)
    with pytest.raises(RigError, match=message):
        read_obj(path)


def test_what_is_no_rig_is_refused(tiny_rig: FaceRig, tmp_path: Path) -> None:
    with pytest.raises(RigError, match="Found nothing there"):
        load_rig(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not a rig")
    with pytest.raises(RigError, match="should be a packed rig"):
        load_rig(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", V=np.zeros((3, 3)))
    with pytest.raises(RigError, match="Missing"):
        load_rig(tmp_path / "other.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RigError, match="generic_neutral_mesh"):
        load_rig(tmp_path / "empty")
    with pytest.raises(RigError, match="Missing: jawOpen"):
        replace(tiny_rig, offset_names=tuple(name.replace("jawOpen", "other") for name in tiny_rig.offset_names))
    with pytest.raises(RigError, match="triangle materials of the rig"):
        replace(tiny_rig, materials_T=tiny_rig.materials_T[:-1])
