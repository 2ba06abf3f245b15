# Figures, the gallery, the report page, and the resolved configuration.


rule figure2:
    input:
        table="<results>/scores/fad_stems.csv",
    output:
        report(
            "<results>/figures/figure2_fad_stems.svg",
            caption="../report/figure2.rst",
            category="Figures",
            labels={"figure": "2: single stems"},
        ),
        multiext("<results>/figures/figure2_fad_stems", ".pdf", ".png"),
    log:
        "<results>/logs/figure2.log",
    conda:
        "../../envs/core.yaml"
    params:
        draw="stems",
        code=code("figure.py"),
        work=Work(FIGURE2),
    script:
        "../scripts/figure.py"


use rule figure2 as figure3 with:
    input:
        table="<results>/scores/fad_mixtures.csv",
    output:
        report(
            "<results>/figures/figure3_fad_mixtures.svg",
            caption="../report/figure3.rst",
            category="Figures",
            labels={"figure": "3: total and partial generation"},
        ),
        multiext("<results>/figures/figure3_fad_mixtures", ".pdf", ".png"),
    log:
        "<results>/logs/figure3.log",
    params:
        draw="mixtures",
        code=code("figure.py"),
        work=Work(FIGURE3),


use rule figure2 as figure4 with:
    input:
        table="<results>/scores/costs.csv",
    output:
        report(
            "<results>/figures/figure4_costs.svg",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "4: separation against its cost"},
        ),
        multiext("<results>/figures/figure4_costs", ".pdf", ".png"),
    log:
        "<results>/logs/figure4.log",
    params:
        draw="costs",
        code=code("figure.py"),
        work=Work(FIGURE4),


rule gallery:
    input:
        separation=expand(
            "<results>/separation/{method}/{shard}-of-{shards}.{kind}",
            method=[row.name for row in STUDY.rows.values() if row.published and row.SHARED],
            shard=1,
            shards=config["jobs"]["separation"],
            kind=["npy", "csv"],
        ),
        generation=expand(
            "<results>/generation/{task}/{shard}-of-{shards}.{kind}",
            task=[name for name, task in STUDY.tasks.items() if task.shown],
            shard=1,
            shards=config["jobs"]["generation"],
            kind=["npy", "csv"],
        ),
        windows=TEST,
    output:
        directory("<results>/gallery"),
    log:
        "<results>/logs/gallery.log",
    conda:
        "../../envs/core.yaml"
    params:
        examples=config["gallery"]["examples"],
        tasks=[task.model_dump() for task in STUDY.tasks.values() if task.shown],
        code=code("gallery.py"),
    script:
        "../scripts/gallery.py"


MAIN = system_folders(STUDY.systems["gmsdi"])
OTHERS = [folder for folder in [*row_folders(*STUDY.rows), *task_folders(*STUDY.tasks)] if folder not in MAIN]
PAGE_FILES = ["report/page.html.j2", *(f"report/figure{number}.rst" for number in (2, 3, 4))]


# The page draws its figures from the tables itself, so that if a figure file was deleted, only that file is drawn again.
rule page:
    input:
        config="<results>/config.yaml",
        table1="<results>/tables/table1_grid.csv",
        table2="<results>/tables/table2_separation.csv",
        differences="<results>/tables/table2_differences.csv",
        chunks=shards("separation", "<results>/separation/extractor/{shard}-of-{shards}.csv"),
        selection="<results>/selection.json",
        scores=["<results>/scores/fad_stems.csv", "<results>/scores/fad_mixtures.csv"],
        coherence="<results>/scores/coherence.csv",
        stems="<results>/scores/stems_of_mixtures.csv",
        negatives="<results>/tables/negative_prompts.csv" if config["generation"]["negatives"] else [],
        costs="<results>/scores/costs.csv" if config["costs"]["steps"] else [],
        codecs="<results>/tables/codecs.csv" if STUDY.codecs else [],
        engines="<results>/tables/engines.csv" if config["fad"]["compare_engines"] else [],
        gallery="<results>/gallery",
        model=model_inputs(MAIN),
        others=model_inputs(OTHERS),
        windows=TEST,
        training="<results>/demo_training/losses.csv" if SHORT["enabled"] else [],
    output:
        page="<results>/report.html",
        provenance="<results>/provenance.json",
    log:
        "<results>/logs/page.log",
    conda:
        "../../envs/core.yaml"
    params:
        benchmarks=f"results/{config['run']}/benchmarks",
        bundled=bundled(MAIN),
        bundled_others=list(bundled(OTHERS)),
        code=code("page.py", *PAGE_FILES),
    script:
        "../scripts/page.py"


rule resolved_config:
    output:
        "<results>/config.yaml",
    log:
        "<results>/logs/config.log",
    conda:
        "../../envs/core.yaml"
    params:
        config=config,
        code=code("resolved_config.py"),
    script:
        "../scripts/resolved_config.py"
