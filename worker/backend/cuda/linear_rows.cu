#include "worker/backend/cuda/linear_rows.h"
