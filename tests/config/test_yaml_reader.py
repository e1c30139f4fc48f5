from pathlib import Path

import pytest

from dasr_arch._errors import InputError
from dasr_arch.config.yaml_reader import MAX_BYTES, parse_yaml, read_yaml


def write(folder: Path, text: str) -> Path:
    path = folder / 'options.yml'
    path.write_text(text, encoding='utf-8')
    return path


def message(path: Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        read_yaml(path, overrides)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_values_keep_their_types(tmp_path):
    path = write(tmp_path, 'a: 1\nb: {c: !!float 1e-4, d: [1.5, yes, ~], e: text}\n')
    assert read_yaml(path) == {'a': 1, 'b': {'c': 1e-4, 'd': [1.5, True, None], 'e': 'text'}}


def test_bare_exponent_stays_text_for_the_schema_to_refuse(tmp_path):
    assert read_yaml(write(tmp_path, 'lr: 2e-4\n')) == {'lr': '2e-4'}


def test_date_stays_text(tmp_path):
    assert read_yaml(write(tmp_path, 'name: 2021-03-04\n')) == {'name': '2021-03-04'}


def test_byte_order_mark_and_windows_lines_are_read(tmp_path):
    path = tmp_path / 'options.yml'
    path.write_bytes(b'\xef\xbb\xbfa: 1\r\nb: 2\r\n')
    assert read_yaml(path) == {'a': 1, 'b': 2}


def test_merged_mappings_are_laid_under_own_keys(tmp_path):
    path = write(tmp_path, 'base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\nagain: {<<: *base}\n')
    assert read_yaml(path) == {'base': {'a': 1, 'b': 2}, 'own': {'a': 1, 'b': 3}, 'again': {'a': 1, 'b': 2}}


def test_setting_one_alias_leaves_the_other(tmp_path):
    path = write(tmp_path, 'first: &x {a: 1}\nsecond: *x\n')
    assert read_yaml(path, ['second.a=2']) == {'first': {'a': 1}, 'second': {'a': 2}}


@pytest.mark.parametrize(
    'code',
    [
        '!!python/object/apply:os.system ["touch {mark}"]',
        '!!python/object/apply:subprocess.check_call [[touch, {mark}]]',
        '!!python/object/new:os.system ["touch {mark}"]',
        '!!python/name:os.system',
        '!!python/module:os',
        '!own {{a: 1}}',
        '!!binary aGVsbG8=',
        '!!set {{a, b}}',
    ],
)
def test_tags_are_refused_and_nothing_runs(tmp_path, code):
    mark = tmp_path / 'mark'
    value = code.format(mark=mark)
    text = message(write(tmp_path, f'a: 1\nb: {value}\n'))
    assert 'options.yml:2: the tag' in text
    assert 'refused' in text
    assert 'refused' in message(write(tmp_path, 'b: 1\n'), (f'b={value}',))
    assert not mark.exists()


def test_code_in_a_key_is_refused(tmp_path):
    assert 'keys must be text' in message(write(tmp_path, '? !!python/name:os.system\n: 1\n'))


@pytest.mark.parametrize(
    ('text', 'line', 'first', 'key'),
    [('a: 1\nb: 2\na: 3\n', 3, 1, 'a'), ('t:\n  lr: 1\n  lr: 2\n', 3, 2, 'lr'), ('- {x: 1, x: 2}', 1, 1, 'x')],
)
def test_duplicate_keys_are_refused_with_both_lines(tmp_path, text, line, first, key):
    assert f"options.yml:{line}: the key '{key}' is already given in line {first}" in message(write(tmp_path, text))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'is empty'),
        ('# only a comment\n', 'is empty'),
        ('- 1\n- 2\n', 'expected a mapping (key: value) at the top, got a list'),
        ('just text', 'at the top, got text'),
        ('a: b: c\n', 'options.yml:1:5: not valid YAML'),
        ('a: [1\nb: 2\n', 'options.yml:2:2: not valid YAML'),
        ('a:\n\tb: 1\n', 'indent with spaces'),
        ('a: 1\t\nb: 2\n', 'options.yml:1:5: not valid YAML: found character'),
        ('a:\tb\n', 'replace the tab by a space'),
        ('a: 1\n---\nb: 2\n', 'another document'),
        ('1: a\n', "keys must be text, got '1'"),
        ('a: !!int 5e3\n', "'5e3' cannot be read as !!int"),
        ('a: !!float abc\n', "'abc' cannot be read as !!float"),
        ('a: !!map [1]\n', 'options.yml:1: !!map cannot stand before a list or mapping'),
        ('a: &a [*a]\n', 'an alias refers to a value that contains it'),
        ('[' * 3000, 'nested too deeply'),
        ('a: "\x01"\n', 'not valid YAML'),
    ],
)
def test_a_broken_text_gives_one_line(tmp_path, text, expected):
    assert expected in message(write(tmp_path, text))


def test_exploding_aliases_are_refused(tmp_path):
    lines = ['a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]']
    lines += [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 9)}]' for i in range(1, 10)]
    assert 'too many for an option file' in message(write(tmp_path, '\n'.join(lines)))


def test_missing_file_lists_its_neighbours(tmp_path):
    write(tmp_path, 'a: 1\n')
    assert message(tmp_path / 'option.yml').endswith('does not exist; in that folder: options.yml')


def test_folder_is_no_option_file(tmp_path):
    assert 'got a folder' in message(tmp_path)


def test_file_of_another_kind_cannot_be_read(tmp_path):
    path = write(tmp_path, 'a: 1\n')
    assert message(path / 'more.yml').endswith('more.yml: the option file cannot be read: Not a directory')


def test_binary_file_is_no_option_file(tmp_path):
    path = tmp_path / 'options.yml'
    path.write_bytes(b'\x89PNG\x00\x00')
    assert 'got a binary file' in message(path)


def test_text_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / 'options.yml'
    path.write_bytes('name: Übung\n'.encode('latin-1'))
    assert 'is not UTF-8 text (byte 6)' in message(path)


def test_huge_file_is_refused(tmp_path):
    assert f'at most {MAX_BYTES} bytes' in message(write(tmp_path, 'a: ' + 'x' * MAX_BYTES))


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('train.total_iter=20', {'train': {'total_iter': 20, 'steps': [1, 2]}}),
        ('train:total_iter=20', {'train': {'total_iter': 20, 'steps': [1, 2]}}),
        ('train.steps.1=5', {'train': {'total_iter': 9, 'steps': [1, 5]}}),
        ('train.steps=[3, 4]', {'train': {'total_iter': 9, 'steps': [3, 4]}}),
        ('train.lr=!!float 1e-4', {'train': {'total_iter': 9, 'steps': [1, 2], 'lr': 1e-4}}),
        (
            'path.resume_state=a=b.state',
            {'train': {'total_iter': 9, 'steps': [1, 2]}, 'path': {'resume_state': 'a=b.state'}},
        ),
        ('train=~', {'train': None}),
        ('train=', {'train': None}),
    ],
)
def test_override_sets_one_value(tmp_path, override, expected):
    assert read_yaml(write(tmp_path, 'train: {total_iter: 9, steps: [1, 2]}\n'), [override]) == expected


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('train.total_iter', 'expected key=value'),
        ('=3', 'expected key=value'),
        ('train..x=3', 'expected key=value'),
        ('train.total_iter.x=3', "'train.total_iter' is a number, it has no keys"),
        ('train.steps.7=3', 'expected a number below 2'),
        ('train.steps.x=3', 'expected a number below 2'),
        ('train={a: 1, a: 2}', "the key 'a' is already given"),
        ('train=[1', 'not valid YAML'),
    ],
)
def test_bad_override_gives_one_line(tmp_path, override, expected):
    text = message(write(tmp_path, 'train: {total_iter: 9, steps: [1, 2]}\n'), (override,))
    assert expected in text
    assert override in text


def test_override_values_are_data_never_evaluated(tmp_path):
    read = read_yaml(write(tmp_path, 'a: 1\n'), ['a=__import__("os").getcwd()'])
    assert read == {'a': '__import__("os").getcwd()'}


def test_empty_text_is_none():
    assert parse_yaml('', 'here') is None
