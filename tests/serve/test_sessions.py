"""Which files the page keeps, and for whom."""

from art_idguard.serve.sessions import SessionFiles


def test_a_picture_under_two_names_goes_alone(tmp_path):
    """Gradio keeps an upload in a folder named after its content, in which a renamed copy lies as well."""
    files = SessionFiles(tmp_path)
    (tmp_path / "content").mkdir()
    first, second = (tmp_path / "content" / name for name in ("a.jpg", "b.jpg"))
    for path, session in ((first, "one"), (second, "two")):
        path.write_bytes(b"picture")
        files.keep(session, path)
    files.close("one")
    assert not first.exists()
    assert second.exists()
    files.close("two")
    assert not (tmp_path / "content").exists()
