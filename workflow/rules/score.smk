# Scores, as tidy tables, and Table 2. Tables and figures read these and nothing else.


rule score_separation:
    input:
        audio=shards("separation", "<results>/separation/{method}/{shard}-of-{shards}.npy"),
        tables=shards("separation", "<results>/separation/{method}/{shard}-of-{shards}.csv"),
        windows=TEST,
    output:
        "<results>/scores/separation_{method}.csv",
    log:
        "<results>/logs/score/{method}.log",
    conda:
        "../../envs/core.yaml"
    params:
        code=code("score_separation.py"),
        work=WORK.scores(),
    script:
        "../scripts/score_separation.py"


rule table2:
    input:
        scores=expand("<results>/scores/separation_{method}.csv", method=STUDY.separations()),
        chunks=shards("separation", "<results>/separation/extractor/{shard}-of-{shards}.csv"),
        selection="<results>/selection.json",
        validation=(
            expand("<results>/grid/validation/{method}.csv", method=list(STUDY.grid_rows))
            if any(row.chosen_on == "validation" for row in STUDY.ensembles.values())
            else []
        ),
    output:
        report(
            "<results>/tables/table2_separation.csv",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2: source separation"},
        ),
        multiext("<results>/tables/table2_separation", ".md", ".tex"),
        differences=multiext("<results>/tables/table2_differences", ".csv", ".md", ".tex"),
    log:
        "<results>/logs/table2.log",
    conda:
        "../../envs/core.yaml"
    params:
        intervals=config["intervals"],
        methods=STUDY.separations(),
        averages=[row.model_dump() for row in STUDY.averages.values()],
        ensembles=[row.model_dump() for row in STUDY.ensembles.values()],
        code=code("table2.py", "resources/paper_table2.csv"),
        work=Work(TABLE2),
    script:
        "../scripts/table2.py"


# BSS Eval's ratios of the same separations, if separation.bss_eval is set.
rule bss_eval:
    input:
        audio=shards("separation", "<results>/separation/{method}/{shard}-of-{shards}.npy"),
        tables=shards("separation", "<results>/separation/{method}/{shard}-of-{shards}.csv"),
        windows=TEST,
    output:
        "<results>/scores/bss_eval_{method}.csv",
    log:
        "<results>/logs/bss_eval/{method}.log",
    benchmark:
        "<results>/benchmarks/bss_eval/{method}.tsv"
    conda:
        "../../envs/bss_eval.yaml"
    params:
        code=code("bss_eval.py"),
        work=WORK.bss_eval(),
    script:
        "../scripts/bss_eval.py"


rule table2_bss_eval:
    input:
        scores=expand("<results>/scores/bss_eval_{method}.csv", method=STUDY.separations()),
        selection="<results>/selection.json",
    output:
        report(
            "<results>/tables/table2_bss_eval.csv",
            caption="../report/table2_bss_eval.rst",
            category="Tables",
            labels={"table": "2: in BSS Eval's ratios"},
        ),
        multiext("<results>/tables/table2_bss_eval", ".md", ".tex"),
    log:
        "<results>/logs/table2_bss_eval.log",
    conda:
        "../../envs/core.yaml"
    params:
        methods=STUDY.separations(),
        averages=[row.model_dump() for row in STUDY.averages.values()],
        code=code("table2_bss_eval.py"),
        work=Work(TABLE2),
    script:
        "../scripts/table2_bss_eval.py"


# The arguments of gmsdi.metrics.embeddings.get_embedding, and the embedding's name in tables and figures: its own name,
# and how it differs from the embedding published under that name.
EMBEDDING = {
    "name": config["fad"]["embedding"],
    **{key: config["fad"][key] for key in ["checkpoint", "sha256", "hop"]},
}
EMBEDDING_LABEL = EMBEDDING["name"]
if EMBEDDING["sha256"]:
    EMBEDDING_LABEL += f", weights {EMBEDDING['sha256'][:8].lower()}"
if EMBEDDING["hop"]:
    EMBEDDING_LABEL += f", hop {EMBEDDING['hop']:g} s"
if EMBEDDING["checkpoint"] and not Path(EMBEDDING["checkpoint"]).is_file():
    sys.exit(
        f"config: fad.checkpoint: no {EMBEDDING['checkpoint']}; set it to a file of weights, or to null to have them "
        "downloaded"
    )


# Weights that come with the package are not among a job's input files.
EMBEDDING_WEIGHTS = bundled_embedding(EMBEDDING["name"])
OURS = engine_folder("gmsdi")


rule embed_generated:
    input:
        checkpoint=EMBEDDING["checkpoint"] or [],
        audio=shards("generation", "<results>/generation/{task}/{shard}-of-{shards}.npy"),
        tables=shards("generation", "<results>/generation/{task}/{shard}-of-{shards}.csv"),
        windows=f"<data>/{part('test')}/windows/info.json",
    output:
        f"{OURS}/embeddings/{{task}}.npz",
    log:
        "<results>/logs/embed/{task}.log",
    benchmark:
        "<results>/benchmarks/embed/{task}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    params:
        embedding=EMBEDDING,
        weights=EMBEDDING_WEIGHTS,
        clips=config["generation"]["clips"],
        rows=lambda wildcards: stems_of(STUDY.tasks[wildcards.task]),
        code=code("embed_generated.py"),
        work=lambda wildcards: WORK.embedding(wildcards.task),
    script:
        "../scripts/embed_generated.py"


rule embed_references:
    input:
        checkpoint=EMBEDDING["checkpoint"] or [],
        windows=TEST,
    output:
        f"{OURS}/embeddings/references.npz",
    log:
        "<results>/logs/embed/references.log",
    benchmark:
        "<results>/benchmarks/embed/references.tsv"
    conda:
        "../../envs/core.yaml"
    threads: THREADS
    params:
        embedding=EMBEDDING,
        weights=EMBEDDING_WEIGHTS,
        limit=config["fad"]["reference_clips"],
        mixtures=config["fad"]["mixtures"],
        clips=config["generation"]["clips"],
        seed=config["seed"],
        groups=config["generation"]["groups"],
        code=code("embed_references.py"),
        work=WORK.embedding(None),
    script:
        "../scripts/embed_references.py"


rule fad:
    input:
        generated=expand(f"{OURS}/embeddings/{{task}}.npz", task=list(STUDY.tasks)),
        references=f"{OURS}/embeddings/references.npz",
    output:
        stems=f"{OURS}/scores/fad_stems.csv",
        mixtures=f"{OURS}/scores/fad_mixtures.csv",
        curve=f"{OURS}/scores/fad_curve.csv",
    log:
        "<results>/logs/fad.log",
    conda:
        "../../envs/core.yaml"
    params:
        labels=STUDY.labels,
        embedding=EMBEDDING_LABEL,
        intervals=config["intervals"],
        seed=config["seed"],
        singles={task.name: task.point() for task in STUDY.figure2()},
        mixtures={task.name: task.series for task in STUDY.figure3()},
        code=code("fad.py"),
        work=Work(DISTANCES),
    script:
        "../scripts/fad.py"


# The effect of negative prompts on each stem at equal w, harmful effects included.
rule negative_prompts:
    input:
        scores=["<results>/scores/fad_stems.csv", "<results>/scores/fad_curve.csv"],
    output:
        multiext("<results>/tables/negative_prompts", ".csv", ".md", ".tex"),
    log:
        "<results>/logs/negative_prompts.log",
    conda:
        "../../envs/core.yaml"
    params:
        intervals=config["intervals"],
        code=code("negative_prompts.py"),
        work=Work(FIGURE2),
    script:
        "../scripts/negative_prompts.py"


PARTIAL = [name for name, task in STUDY.tasks.items() if task.given]


# Whether accompaniments fit the given stems, which the distances cannot show.
rule coherence:
    input:
        audio=shards("generation", expand("<results>/generation/{task}/{{shard}}-of-{{shards}}.npy", task=PARTIAL)),
        tables=shards("generation", expand("<results>/generation/{task}/{{shard}}-of-{{shards}}.csv", task=PARTIAL)),
        windows=TEST,
    output:
        "<results>/scores/coherence.csv",
    log:
        "<results>/logs/coherence.log",
    conda:
        "../../envs/core.yaml"
    params:
        labels=STUDY.labels,
        series={name: STUDY.tasks[name].series for name in PARTIAL},
        code=code("coherence.py"),
        work=WORK.coherence(),
    script:
        "../scripts/coherence.py"


# The sums of Figure 3 say nothing about individual stems.
rule stems_of_mixtures:
    input:
        generated=expand(
            "<results>/embeddings/{task}.npz",
            task=sorted(STUDY.tasks, key=lambda name: STUDY.tasks[name].mixed),
        ),
        references="<results>/embeddings/references.npz",
        windows=TEST,
    output:
        "<results>/scores/stems_of_mixtures.csv",
    log:
        "<results>/logs/stems_of_mixtures.log",
    conda:
        "../../envs/core.yaml"
    params:
        series={name: task.stems_series for name, task in STUDY.tasks.items()},
        clips=config["generation"]["clips"],
        intervals=config["intervals"],
        seed=config["seed"],
        code=code("stems_of_mixtures.py"),
        work=WORK.stems_of_mixtures(),
    script:
        "../scripts/stems_of_mixtures.py"
