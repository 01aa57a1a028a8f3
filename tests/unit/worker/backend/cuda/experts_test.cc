#include "worker/backend/cuda/experts.h"

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

// The weights of a mixture in one format.
struct Format {
  Stored stored;
  DType activations;
  int64_t width, ffn;
  int64_t padding = 0;  // Of the weights' rows.
};

class ExpertsTest : public Rig {
 protected:
  static constexpr int kExperts = 7;

  void Make(const Format& format) {
    format_ = format;
    gate_up_.clear(), down_.clear();
    std::vector<ExpertMatrices> matrices;
    for (uint32_t e = 0; e < kExperts; ++e) {
      gate_up_.push_back(
          UploadMatrix(Random(static_cast<size_t>(2 * format.ffn * format.width), 2 * e),
                       2 * format.ffn, format.width, format.stored, format.padding));
      down_.push_back(
          UploadMatrix(Random(static_cast<size_t>(format.width * format.ffn), 2 * e + 1),
                       format.width, format.ffn, format.stored, format.padding));
      matrices.push_back({gate_up_.back().matrix, down_.back().matrix});
    }
    experts_ = Upload(matrices);
  }

  // x [N][D], scores [N][experts]; strides are odd where they may be.
  std::vector<float> Mix(const std::vector<float>& x, const std::vector<float>& scores,
                         ExpertChoice choice) {
    const int64_t rows = static_cast<int64_t>(scores.size()) / kExperts;
    MixExpertsArgs args;
    args.x = Upload(x, format_.activations, rows, format_.width, format_.width + 8);
    args.scores = Upload(scores, DType::kF32, rows, kExperts, kExperts + 1);
    args.out = Poisoned(DType::kF32, rows, format_.width, format_.width + 3);
    args.experts = experts_;
    args.stored = format_.stored;
    args.num_experts = kExperts;
    args.ffn = format_.ffn;
    args.choice = choice;
    args.scratch = Poisoned<char>(static_cast<size_t>(ExpertScratchBytes(args)));
    MixExperts(args, stream());
    return Download(args.out);
  }

  // And the sum of what was added, without signs.
  void Reference(const float* x, const float* scores, ExpertChoice choice, std::vector<double>* out,
                 std::vector<double>* terms) const {
    const int width = static_cast<int>(format_.width), ffn = static_cast<int>(format_.ffn);
    const std::vector<double> weights =
        reference::ExpertWeightsOf({scores, scores + kExperts}, choice.chosen, choice.renormalise);
    out->assign(static_cast<size_t>(width), 0), terms->assign(static_cast<size_t>(width), 0);
    for (size_t e = 0; e < kExperts; ++e) {
      if (weights[e] == 0) continue;
      const std::vector<double> both = reference::Linear(gate_up_[e].values, x, width);
      for (int c = 0; c < width; ++c) {
        double sum = 0, all = 0;
        for (int f = 0; f < ffn; ++f) {
          const float hidden =
              Rounded(static_cast<float>(reference::Silu(both[static_cast<size_t>(f)]) *
                                         both[static_cast<size_t>(ffn + f)]),
                      format_.activations);
          const double term =
              static_cast<double>(down_[e].values[static_cast<size_t>(c * ffn + f)]) * hidden;
          sum += term, all += std::abs(term);
        }
        (*out)[static_cast<size_t>(c)] += weights[e] * sum;
        (*terms)[static_cast<size_t>(c)] += weights[e] * all;
      }
    }
  }

  void ExpectReference(int rows, ExpertChoice choice) {
    const int width = static_cast<int>(format_.width);
    const std::vector<float> x =
        Rounded(Random(static_cast<size_t>(rows * width), 50), format_.activations);
    const std::vector<float> scores = Random(static_cast<size_t>(rows * kExperts), 51);
    const std::vector<float> found = Mix(x, scores, choice);
    // A hidden number may round the other way than the reference's.
    const double tolerance = format_.activations == DType::kF32 ? 1e-5 : 1e-3;
    std::vector<double> expected, terms;
    for (int n = 0; n < rows; ++n) {
      Reference(x.data() + n * width, scores.data() + n * kExperts, choice, &expected, &terms);
      for (int c = 0; c < width; ++c) {
        const size_t at = static_cast<size_t>(c);
        ASSERT_NEAR(found[static_cast<size_t>(n * width + c)], expected[at],
                    tolerance * terms[at] + 1e-30)
            << "row " << n << " of " << rows << ", column " << c;
      }
    }
  }

  void ExpectRowsAlone(int rows, ExpertChoice choice) {
    const size_t width = static_cast<size_t>(format_.width), all = static_cast<size_t>(rows);
    const std::vector<float> x = Random(all * width, 60), scores = Random(all * kExperts, 61);
    const std::vector<uint32_t> together = BitsOf(Mix(x, scores, choice));
    for (size_t n = 0; n < all; n += n < 2 ? 1 : 13) {
      const std::vector<uint32_t> alone =
          BitsOf(Mix({x.begin() + n * width, x.begin() + (n + 1) * width},
                     {scores.begin() + n * kExperts, scores.begin() + (n + 1) * kExperts}, choice));
      ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + n * width)) << n;
    }
  }

  Format format_;
  std::vector<TestMatrix> gate_up_, down_;
  const ExpertMatrices* experts_ = nullptr;
};

const Format kFormats[] = {
    {Stored::kF32, DType::kF32, 33, 17},          {Stored::kBF16, DType::kF32, 40, 24},
    {Stored::kBF16, DType::kBF16, 72, 40},        {Stored::kBF16, DType::kBF16, 1096, 24},
    {Stored::kE4M3, DType::kBF16, 80, 48},        {Stored::kE4M3, DType::kBF16, 2064, 16},
    {Stored::kInt4, DType::kBF16, 128, 256},      {Stored::kE4M3, DType::kBF16, 88, 40, 8},
    {Stored::kInt4, DType::kBF16, 136, 136, 120},
};

TEST_F(ExpertsTest, AMixtureIsTheReferences) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(static_cast<int>(format.stored));
    Make(format);
    ExpectReference(1, {1, false});
    ExpectReference(3, {2, true});
    if (format.width < 200) ExpectReference(17, {3, false});
    if (format.width == 72) ExpectReference(65, {7, true});
  }
}

TEST_F(ExpertsTest, ARowsMixtureDoesNotDependOnTheOtherRows) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(static_cast<int>(format.stored));
    Make(format);
    ExpectRowsAlone(3, {2, true});
    if (format.width < 200) ExpectRowsAlone(17, {2, true});
    if (format.width == 72) ExpectRowsAlone(40, {3, false});
  }
}

TEST_F(ExpertsTest, MoreRowsThanAPassAreTheSameRows) {
  Make({Stored::kBF16, DType::kBF16, 8, 8});
  const std::vector<float> x = Random(1030 * 8, 1), scores = Random(1030 * kExperts, 2);
  const std::vector<uint32_t> together = BitsOf(Mix(x, scores, {1, false}));
  const std::vector<uint32_t> last = BitsOf(
      Mix({x.end() - 8 * 8, x.end()}, {scores.end() - 8 * kExperts, scores.end()}, {1, false}));
  EXPECT_TRUE(std::equal(last.begin(), last.end(), together.end() - 8 * 8));
}

TEST_F(ExpertsTest, OfEqualScoresTheLowerExpertIsChosen) {
  Make({Stored::kF32, DType::kF32, 33, 17});
  const std::vector<float> x = Random(33, 70);
  const auto tied = Mix(x, {0, 1, 0, 1, 1, 0, 0}, {2, true});
  const auto clear = Mix(x, {0, 1, 0, 1, -9, 0, 0}, {2, true});
  EXPECT_EQ(BitsOf(tied), BitsOf(clear));
}

TEST_F(ExpertsTest, ARowWithoutNumbersHarmsNoOther) {
  Make({Stored::kBF16, DType::kBF16, 72, 40});
  std::vector<float> x = Random(5 * 72, 80), scores = Random(5 * kExperts, 81);
  const std::vector<uint32_t> sound = BitsOf(Mix(x, scores, {2, true}));
  std::fill_n(x.begin() + 2 * 72, 72, NAN);
  std::fill_n(scores.begin() + 2 * kExperts, kExperts, NAN);
  const std::vector<uint32_t> found = BitsOf(Mix(x, scores, {2, true}));
  for (size_t i = 0; i < found.size(); ++i) {
    if (i / 72 != 2) {
      EXPECT_EQ(found[i], sound[i]) << i;
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
