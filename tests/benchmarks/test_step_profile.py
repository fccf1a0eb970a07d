import pytest

from benchmarks.step_profile import Share, format_lines, parse_log, profile_steps

LOG = """
onednn_verbose,v1,info,cpu,runtime:threadpool
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32 dst:f32,,,32x12x1x16,1.5
onednn_verbose,v1,primitive,exec,cpu,convolution,brg:avx512_core,forward_training,src:f32,attr,alg:convolution_direct,mb2_ic12oc32_ih1oh1kh1sh1dh0ph0_iw2500ow1250kw16sw2dw0pw7,6.0
onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,backward_weights,src:f32,attr,alg:convolution_direct,mb2_ic32oc32_ih1oh1kh1sh1dh0ph0_iw625ow625kw11sw1dw0pw5,4.0
onednn_verbose,v1,primitive,create,cpu,convolution,jit:avx512_core,backward_weights,src:f32,attr,alg:convolution_direct,mb2_ic32oc32_ih1oh1kh1sh1dh0ph0_iw625ow625kw11sw1dw0pw5,99
onednn_verbose,v1,primitive,exec,cpu,gemm_api,,undef,src:f32,,,64x2:2x32,0.5
another line
""".splitlines()  # noqa: E501


def test_operations_are_counted_by_their_sizes_for_a_step():
    shares = parse_log(LOG, steps=2)
    assert shares == {
        "copies into other layouts": Share(0.00075, 0),
        "convolutions, forward": Share(0.003, 2 * 12 * 32 * 1250 * 16),
        "convolutions, gradient of the weights": Share(0.002, 2 * 32 * 32 * 625 * 11),
        "the rest of oneDNN": Share(0.00025, 0),
    }
    lines = format_lines(shares, 0.01, 1e10)
    assert lines[2] == "| convolutions, forward | 3 | 30% | 5 | 0.51 |"
    assert lines[-2].startswith("| outside oneDNN | 4 | 40% | |") and lines[-1].startswith("| a step | 10 | 100% | 3 |")


@pytest.mark.slow
def test_a_step_is_profiled():
    shares, seconds, limit = profile_steps(2, 2)
    assert 0 < sum(share.seconds for share in shares.values()) < 2 * seconds and limit > 1e8  # some overlap
    # Small convolutions forward are left to another library.
    for name in ("forward", "gradient of the signals", "gradient of the weights"):
        assert shares[f"convolutions, {name}"].operations > 1e8
