from xhat.cli import console


def test_nothing_that_a_terminal_would_obey_is_printed(capsys):
    hostile = "\x1b]0;owned\x07\x1b[2J\r\x9b31mname"
    console.say(hostile)
    console.show(hostile, [hostile], [[hostile]])
    console.warn(hostile)
    console.complain(f"xhat: {hostile}")
    for text in capsys.readouterr():
        assert "name" in text
        assert not set(text) & set("\x1b\x07\r\x9b")
