// What pictures are drawn with: SVG 1.1, for light and dark screens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace memwall {

std::string svg_escaped(std::string_view text);

// About five round numbers from `low` to `high`, which is larger.
std::vector<double> round_ticks(double low, double high);

class SvgPicture {
 public:
  static constexpr double kWidth = 960, kMargin = 24;  // pixels
  static constexpr double kLine = 17, kHeading = 34;   // heights

  // `kind`: a class of the style.
  void text(double x, double y, std::string_view kind, std::string_view what,
            std::string_view anchor = "start");
  void line(std::string_view kind, double x1, double y1, double x2, double y2);
  void rect(std::string_view kind, double x, double y, double width, double height);
  void raw(std::string_view elements) { body_ += elements; }

  // A heading and a remark below what was drawn last; `y` goes down past them.
  void heading(std::string_view what, std::string_view remark);
  double y = 56;  // where the next thing goes

  // `style`: rules beside the common ones.
  std::string file(std::string_view title, std::string_view subtitle,
                   std::string_view style = "") const;

 private:
  std::string body_;
};

}  // namespace memwall
