def prepare(kind, out, params, session):
    from stages.prepare_data import Inputs, run

    return run(Inputs(kind, out), params, session)
