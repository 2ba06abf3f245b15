# Tuning: the searches of `tuning` on validation data, and which defaults of config.yaml they support. `make tune`.

import yaml

VALIDATION = windows(part("validation"))
SEARCHES = STUDY.searches
OF_ROWS = [name for name, search in SEARCHES.items() if search.rows]
OF_TASKS = [name for name in SEARCHES if name not in OF_ROWS]


rule search_rows:
    input:
        model=lambda wildcards: model_inputs(search_folders(wildcards.search)),
        windows=VALIDATION,
    output:
        "<results>/searches/separation/{search}.csv",
    log:
        "<results>/logs/search/{search}.log",
    benchmark:
        "<results>/benchmarks/search/{search}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        variants=lambda wildcards: [variant.bare().model_dump() for variant in SEARCHES[wildcards.search].variants],
        default=lambda wildcards: SEARCHES[wildcards.search].default,
        number=lambda wildcards: SEARCHES[wildcards.search].items,
        intervals=config["intervals"],
        seed=config["seed"],
        bundled=lambda wildcards: bundled(search_folders(wildcards.search)),
        precision=config["jobs"]["precision"],
        code=code("search_rows.py"),
        work=lambda wildcards: WORK.search(wildcards.search),
    script:
        "../scripts/search_rows.py"


rule search_tasks:
    input:
        model=lambda wildcards: model_inputs(search_folders(wildcards.search)),
        windows=VALIDATION,
        references="<results>/searches/references.npz",
        checkpoint=EMBEDDING["checkpoint"] or [],
    output:
        "<results>/searches/generation/{search}.csv",
    log:
        "<results>/logs/search/{search}.log",
    benchmark:
        "<results>/benchmarks/search/{search}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    resources:
        gpu=1,
    params:
        variants=lambda wildcards: [variant.model_dump() for variant in SEARCHES[wildcards.search].variants],
        default=lambda wildcards: SEARCHES[wildcards.search].default,
        intervals=config["intervals"],
        embedding=EMBEDDING,
        weights=EMBEDDING_WEIGHTS,
        seed=config["seed"],
        bundled=lambda wildcards: bundled(search_folders(wildcards.search)),
        precision=config["jobs"]["precision"],
        code=code("search_tasks.py"),
        work=lambda wildcards: WORK.search(wildcards.search),
    script:
        "../scripts/search_tasks.py"


use rule embed_references as search_references with:
    input:
        checkpoint=EMBEDDING["checkpoint"] or [],
        windows=VALIDATION,
    output:
        "<results>/searches/references.npz",
    log:
        "<results>/logs/search/references.log",
    benchmark:
        "<results>/benchmarks/search/references.tsv"


rule tuning:
    input:
        rows=expand("<results>/searches/separation/{search}.csv", search=OF_ROWS),
        tasks=expand("<results>/searches/generation/{search}.csv", search=OF_TASKS),
        windows=VALIDATION,
        models=lambda wildcards: model_inputs(search_folders(*SEARCHES)),
    output:
        directory("<results>/tuning"),
    log:
        "<results>/logs/tuning.log",
    conda:
        "../../envs/core.yaml"
    params:
        choices=choices(yaml.safe_load((REPO / "config" / "config.yaml").read_text())),
        decides={name: search.decides for name, search in SEARCHES.items()},
        numbers={name: search.items for name, search in SEARCHES.items()},
        bundled=lambda wildcards: bundled(search_folders(*SEARCHES)),
        seed=config["seed"],
        code=code("tuning.py"),
        work=Work(TUNING),
    script:
        "../scripts/tuning.py"


rule tune:
    input:
        rules.tuning.output,
