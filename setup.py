"Everything here comes from settings.ini, as the nbdev 2 layout does it."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

root = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

min_python = tuple(map(int, cfg['min_python'].split('.')))
tested = [(3, minor) for minor in range(10, 14) if (3, minor) >= min_python]
statuses = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(root/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    keywords=cfg['keywords'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[f'Development Status :: {statuses[int(cfg["status"])]}',
                 f'Intended Audience :: {cfg["audience"]}',
                 f'Natural Language :: {cfg["language"]}',
                 *(f'Programming Language :: Python :: {a}.{b}' for a, b in tested)],
    packages=[cfg['lib_path']],
    python_requires=f'>={cfg["min_python"]}',
    install_requires=cfg['requirements'].split(),
    extras_require={'fast': cfg['fast_requirements'].split(), 'bench': cfg['bench_requirements'].split(),
                    'dev': cfg['dev_requirements'].split() + cfg['fast_requirements'].split()},
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d']},
    zip_safe=False,
)
