-- Tables of an index, format version 2. DuckDB; every other part of an index is derived from them.
-- "normalised" activations are divided by the neuron's max activation over the corpus.

create table models (
    model_id integer primary key,
    name varchar not null,
    n_layers integer not null,
    d_mlp integer not null,                -- neurons per layer
    act_fn varchar not null,
    hook varchar not null,                 -- TransformerLens hook that was read, {layer} in place of the layer
    tokenizer varchar not null,
    vocab_size integer not null,
    weights_sha256 varchar not null,
    config json not null
);

create table tokens (
    model_id integer not null,
    token_id integer not null,
    text varchar not null,                 -- exact; bytes that are no whole character are \xNN
    norm varchar not null                  -- folded: stripped, lower case
);

create table neurons (
    neuron_id integer not null,            -- unique across the models of an index
    model_id integer not null,
    layer integer not null,
    "index" integer not null,              -- within the layer
    name varchar not null,                 -- L3N15
    max_activation float,                  -- over the corpus
    mean_activation double,                -- over the corpus
    density double,                        -- share of tokens on which it fires; a sample for common neurons
    n_examples integer not null,
    n_paths integer not null,
    n_nodes integer not null,              -- of the trie
    n_activating integer not null,         -- activating nodes of the trie
    n_context integer not null,            -- context nodes of the trie
    n_components integer not null,         -- of the neuron graph
    max_depth integer not null,            -- tokens before the activating one
    status varchar not null check (status in ('ok', 'dead', 'failed')),
    error varchar
);

create table nodes (                       -- of the trie
    neuron_id integer not null,
    node_id integer not null,
    parent_id integer,                     -- null for activating nodes
    depth integer not null,
    kind varchar not null check (kind in ('activating', 'context', 'ignore')),
    token_id integer not null,             -- -1 for ignore
    importance float not null,
    activation float not null,             -- normalised, of the neuron on this token
    is_end boolean not null,
    end_activation float,                  -- normalised, of the path that ends here
    support integer not null               -- observations that run through here
);

create table edges (                       -- of the trie
    neuron_id integer not null,
    src integer not null,
    dst integer not null
);

create table graph_nodes (                 -- of the neuron graph: the condensed drawing
    neuron_id integer not null,
    graph_node_id integer not null,
    depth integer not null,                -- literal tokens back from the activating one
    kind varchar not null check (kind in ('activating', 'context')),
    token_id integer not null,
    importance float not null,
    activation float not null,
    is_end boolean not null,
    component integer not null,
    is_core boolean not null
);

create table graph_edges (
    neuron_id integer not null,
    src integer not null,                  -- nearer to the activating token
    dst integer not null,
    support integer not null
);

create table paths (
    neuron_id integer not null,
    path_id integer not null,
    length integer not null,
    activation float not null,             -- normalised
    support integer not null,
    tokens integer[] not null,             -- activating token first; -1 = ignore
    fires boolean not null,                -- false: an exception, where this is the longest match it does not
    text varchar not null                  -- reading order, for people
);

create table lattices (                    -- minimal contexts with what may stand at their important places
    neuron_id integer not null,
    lattice_id integer not null,           -- rank of the example
    position integer not null,             -- tokens back from the pivot, 0 for the pivot itself
    token_id integer not null,
    origin varchar not null check (origin in ('original', 'substitute')),
    probability float,                     -- what the helper gave a substitute
    activation float not null,             -- normalised and scaled, of the pivot, with this token in its place
    kept boolean not null                  -- enough activation was left
);

create table optima (                      -- of each lattice the combination that drives the pivot hardest
    neuron_id integer not null,
    lattice_id integer not null,           -- rank of the example
    tokens integer[] not null,             -- reading order: the minimal context with it in place, pivot last
    -- Both activations are what the model gives for just these tokens, normalised: above 1 is above anything in
    -- the corpus. Those in lattices are also scaled up by what cutting the example down to them has cost.
    activation float not null,
    original_activation float not null,    -- of the unchanged minimal context
    exact boolean not null,                -- every combination was tried; else there may be a stronger one
    n_changes integer not null,            -- tokens that differ from the original's
    n_tried integer not null               -- combinations
);

create table examples (
    neuron_id integer not null,
    rank integer not null,                 -- 0 is the strongest window
    split varchar not null check (split in ('train', 'test')),
    window_id integer not null,
    "pivot" integer not null,              -- position of the strongest token
    max_activation float not null,
    activations float[] not null           -- raw, at every token of the window
);

create table windows (
    window_id integer not null,
    corpus varchar not null,
    source varchar not null,               -- document of its first token
    start bigint not null,                 -- token offset in the source
    join_at integer[] not null,            -- positions at which further documents begin in it
    join_source varchar[] not null,        -- and which documents these are
    tokens integer[] not null
);

create table scores (                      -- firing tokens of the test examples
    neuron_id integer not null,
    split varchar not null,
    method varchar not null check (method in ('n2g', 'n2g_paper', 'token_lookup', 'ngram_lookup')),
    tp integer not null,
    fp integer not null,
    fn integer not null,
    tn integer not null,
    precision double not null,
    recall double not null,
    f1 double not null,
    correlation double                     -- predicted with real activation; null where one is constant
);

create table builds (
    build_id integer primary key,
    started timestamp not null,            -- UTC
    finished timestamp,                    -- UTC
    versions json not null,
    parameters json not null,
    n_ok integer,
    n_dead integer,
    n_failed integer
);
